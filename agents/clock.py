"""Time as a parameter: monotonic seconds for durations, aware UTC for timestamps."""

import time
from datetime import UTC, datetime

DAY_MS = 24 * 3600 * 1000


class Deadline:
    """One moment to be done by, handed down so that time-outs do not add up."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())


def utc_now() -> str:
    """Now, as stored in documents: ISO 8601 in UTC with milliseconds."""
    return moment(time.time() * 1000)


def moment(epoch_ms: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    found = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_s(timestamp_ms: int, now_ms: float | None = None) -> float | None:
    """Age of a record by the wall clock, or at `now_ms`, seconds; 0 when a clock is ahead.

    None for what is no moment in milliseconds: -1 stands for no time, and microseconds or nanoseconds lie in the far
    future.
    """
    age_ms = (time.time() * 1000 if now_ms is None else now_ms) - timestamp_ms
    return max(0.0, age_ms / 1000) if timestamp_ms >= 0 and age_ms > -DAY_MS else None
