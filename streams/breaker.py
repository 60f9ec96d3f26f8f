"""When a target may be asked: the circuit breaker of M. Nygard, "Release It!", as a small state machine.

closed ── `threshold` failures in a row ──► open ── wait ──► half open: one request, the probe
   ▲                                         ▲                    │
   └────────────── success ──────────────────┼────────────────────┤
                                             └───── failure ──────┘
"""

from collections.abc import Callable
from typing import Literal

State = Literal["closed", "half_open", "open"]


class Breaker:
    """Of one target. Blocks never; time is a parameter, in monotonic seconds."""

    def __init__(self, *, threshold: int, wait_s: Callable[[int], float]) -> None:
        """`wait_s`: how long to stay open after so many probes that failed (from 0)."""
        self._threshold = threshold
        self._wait_s = wait_s
        self._failures = 0
        self._probes = 0
        self._open_until = 0.0
        self.state: State = "closed"

    def ask(self, now: float) -> float:
        """0 when a request may go now, else seconds to wait before asking again.

        Whoever is let through while it is not closed carries the probe, and must report how it went.
        """
        if self.state == "closed":
            return 0.0
        if self.state == "half_open":
            return 0.1  # the probe is under way
        if now < self._open_until:
            return self._open_until - now
        self.state = "half_open"
        return 0.0

    def left(self, now: float) -> float:
        """Seconds until a probe may go; 0 unless it is open."""
        return max(0.0, self._open_until - now) if self.state == "open" else 0.0

    def succeeded(self) -> None:
        """The target answered."""
        self.state, self._failures, self._probes = "closed", 0, 0

    def failed(self, now: float, *, at_least_s: float = 0.0) -> None:
        """The target did not answer, or asked to wait `at_least_s` (its `Retry-After`)."""
        self._failures += 1
        if self.state == "closed" and self._failures < self._threshold and not at_least_s:
            return
        if self.state == "open":  # a request that was sent before it opened
            self._open_until = max(self._open_until, now + at_least_s)
            return
        self._open_until = now + max(at_least_s, self._wait_s(self._probes))
        self._probes += 1
        self.state = "open"

    def abandoned(self) -> None:
        """The probe was given up before it was answered: the next one may go at once."""
        if self.state == "half_open":
            self.state = "open"
