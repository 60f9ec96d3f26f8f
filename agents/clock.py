"""Time as a parameter: monotonic seconds for durations, aware UTC for timestamps."""

import time
from datetime import UTC, datetime


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
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
