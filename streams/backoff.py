"""How long to wait before the next attempt."""

import random


def full_jitter_s(attempt: int, first_s: float, cap_s: float) -> float:
    """Seconds to back off: uniform between 0 and first × 2^attempt, at most the cap.

    M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(cap_s, first_s * 2.0 ** min(attempt, 20)))  # noqa: S311 - not a secret
