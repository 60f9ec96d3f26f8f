"""A text whose vector is known: what tells that a service still has the model that an index was filled with.

It is in the index contract, in short: a byte a dimension. Two services with one model, or a service after a restart,
give vectors that agree to some thousandths; another model's have nothing to do with each other.
"""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

SAME_MODEL = 0.99
"""Least cosine between two controls of one model. What is lost by a byte a dimension is below 0.001."""
NO_COSINE = -1.0
"""Of what cannot be compared: not as long as each other, or no control."""


def control_of(vector: NDArray[np.float32]) -> str:
    """A vector, finite and not zero, in short: base64 of int8."""
    scaled = vector / np.abs(vector).max() * 127
    return base64.b64encode(np.rint(scaled).astype(np.int8).tobytes()).decode()


def agreement_of(one: str, other: str) -> float:
    """Cosine between two controls."""
    left, right = _vector(one), _vector(other)
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / length if left.shape == right.shape and length else NO_COSINE


def _vector(control: str) -> NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(control, validate=True), dtype=np.int8).astype(np.float32)
    except binascii.Error:
        return np.zeros(0, dtype=np.float32)
