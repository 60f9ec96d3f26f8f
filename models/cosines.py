"""Least cosines, in one place: from which difference on two vectors of one text are not the same any more."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.plan import Vectors

TO_FP32 = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999, "int8": 0.98}
"""To the fp32 model's vector of the same text, by what a session computes in: whatever width a run has, however many
rows, whatever else is in it. fp32 on other hardware differs by about 1e-6. Calibrated int8 has 0.99 on the processors
that it was tried on, and 0.74 to 0.97 where a kernel is wrong (ADR 11)."""
AMONG_RUNS = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999, "int8": 0.995}
"""Of one text in two runs of one session, whatever else is in them."""
GOLDEN = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999, "int8": 0.99, "service": 0.99}
"""Of the golden texts to their stored vectors: int8 kernels differ between processors, and nobody knows what a service
computes in, today and on its next machine."""
IN_ONE_INDEX = {"float": 0.999, "int8": 0.995, "service": 0.99}
"""Of a stored vector to that of its text now, by the precision in the index's contract: `float` may hold fp32, bf16 and
fp16 vectors side by side."""


def cosines(left: Vectors | Sequence[Vectors], right: Vectors | Sequence[Vectors]) -> NDArray[np.float32]:
    """Row by row; -1 where a row is zero or not finite."""
    one, other = np.asarray(left, dtype=np.float32), np.asarray(right, dtype=np.float32)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (one * other).sum(axis=-1) / lengths
    return np.where(np.isfinite(found), found, np.float32(-1))
