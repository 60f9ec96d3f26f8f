"""How many chunks go through the stages together: about what the model does in a few seconds.

Large enough that like lengths meet and requests are few; small enough that a rebalance does not wait long.
"""

SECONDS = 4.0
"""A rebalance waits up to 10 s for what is in flight, and two batches may be."""
LEAST, START, MOST = 64, 256, 2048
SMOOTHING = 0.3


class BatchSize:
    """Chunks a batch, between `least` and `most`: what was embedded in `SECONDS` lately. Never blocks or raises."""

    def __init__(self, *, start: int = START, least: int = LEAST, most: int = MOST) -> None:
        self.chunks = start
        self._least = least
        self._most = most
        self._rate: float | None = None

    def observe(self, chunks: int, seconds: float) -> None:
        """So many chunks were embedded in so long; those of a batch or of a part of one."""
        if chunks < self._least or seconds <= 0:
            return  # a few chunks tell more of the overhead than of the rate
        rate = chunks / seconds
        self._rate = rate if self._rate is None else SMOOTHING * rate + (1 - SMOOTHING) * self._rate
        self.chunks = round(min(self._most, max(self._least, self._rate * SECONDS)))
