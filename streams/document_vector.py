"""A document's own vector: the mean of its chunks', weighed by their tokens, of unit length. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIELD = "document_vector"
"""Of a document's first chunk."""
BESIDE = "{}_document"
"""The same beside another vector field than the default one."""
LEAST = 1e-6
"""Length of a mean below which its direction is rounding: chunks that point away from each other."""

Vectors = NDArray[np.float32]


def field_beside(vector: str | None) -> str:
    """The field of documents' own vectors. `vector`: the field of their chunks' where that is not the default one."""
    return FIELD if vector is None else BESIDE.format(vector)


def document_vector(vectors: Vectors, tokens: Sequence[int]) -> Vectors | None:
    """Float32 (dims,); None where the mean has no direction. `vectors`: float32 (chunks, dims); `tokens`: of each."""
    weights = np.asarray(tokens, dtype=np.float32)
    return of_sum(weights @ vectors, float(weights.sum()))


def of_sum(total: NDArray[np.floating], weight: float) -> Vectors | None:
    """The same, of a sum of vectors that were weighed, and the sum of their weights."""
    length = float(np.linalg.norm(total))
    return np.asarray(total / length, dtype=np.float32) if length > LEAST * weight else None
