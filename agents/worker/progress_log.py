"""That a worker works, for whoever reads its log."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

EVERY_S = 60.0

logger = logging.getLogger(__name__)


class ProgressLog:
    """A line a minute while there is lag, and one when there is none any more. `now`: monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._settled: dict[int, int] = {}
        self._behind = True

    def tell(self, rows: Sequence[dict[str, Any]]) -> None:
        """`rows`: of `Assignment.snapshot`, every few seconds; nothing is said while a lag is unknown."""
        if not rows or any(row["lag"] is None for row in rows):
            return
        lag, seconds = sum(row["lag"] for row in rows), self._now() - self._since
        settled = {row["partition"]: row["settled_offset"] for row in rows}
        if lag and seconds < EVERY_S:
            self._settled = settled | self._settled  # where this minute began; also of partitions that came meanwhile
            return
        if lag:
            done = sum(offset - self._settled.get(number, offset) for number, offset in settled.items())
            logger.info("working", extra={"lag": lag, "settled": done, "seconds": round(seconds)})
        elif self._behind:
            logger.info("caught up", extra={"lag": 0, "partitions": len(rows)})
        self._behind = lag > 0
        self._since, self._settled = self._now(), settled
