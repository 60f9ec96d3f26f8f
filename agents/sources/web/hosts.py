"""How often a host is asked: so many requests at once, so long after one another; and when it is left alone."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from agents.sources.web.fetching import Answer, Broken, Busy, Denied

IN_A_ROW = 10
"""Requests that a host answers by being busy, or not at all, before it is given up for this run."""
FAILING_IN_A_ROW = 100
"""The same by errors of its own, each of which may be a page's."""
DENIED_IN_A_ROW = 20
"""The same by refusing, before it has answered any; afterwards some parts of it may be for others."""
DENIED_LATER = 200
LONGEST_BACKOFF_S = 300.0
LONGEST_WAIT_S = 600.0
"""What a host may ask for; above it is given up."""


@dataclass(slots=True)
class Host:
    """Of one. Moments are monotonic seconds."""

    delay_s: float
    next_at: float = 0.0
    running: int = 0
    answered: bool = False
    in_a_row: int = 0
    denied: int = 0
    failing: int = 0
    paused_at: float = float("-inf")
    given_up: str | None = None


class Hosts:
    """All that were asked."""

    def __init__(self, *, delay_s: float, concurrency: int, backoff_s: float, now: Callable[[], float]) -> None:
        """`backoff_s`: after the first answer that is none; twice that after the next, and so on."""
        self._backoff_s = backoff_s
        self._delay_s = delay_s
        self._concurrency = concurrency
        self._now = now
        self._hosts: dict[str, Host] = {}

    def of(self, name: str) -> Host:
        """By scheme, host and port."""
        return self._hosts.setdefault(name, Host(self._delay_s))

    def slow_down(self, name: str, delay_s: float) -> bool:
        """So long after one another it is asked, at least. Whether that is longer than it was."""
        host = self.of(name)
        longer = delay_s > host.delay_s
        host.delay_s = max(host.delay_s, delay_s)
        return longer

    def wait_s(self, name: str) -> float:
        """Until it may be asked; endless while as many are on their way as may be."""
        host = self.of(name)
        return float("inf") if host.running >= self._concurrency else max(0.0, host.next_at - self._now())

    def begin(self, name: str) -> float:
        """A request is on its way. Returns its moment, for `end`."""
        host, now = self.of(name), self._now()
        host.running += 1
        host.next_at = max(host.next_at, now) + host.delay_s
        return now

    def end(self, name: str, begun: float, answer: Answer) -> None:
        """It is over."""
        host = self.of(name)
        host.running -= 1
        match answer:
            case Busy(status, after_s):
                self._pause(host, begun, f"it answers {status}", after_s)
            case Broken(reason, True, False):
                self._pause(host, begun, reason, 0.0)
            case Broken(reason):
                host.failing += 1
                if host.failing >= FAILING_IN_A_ROW:
                    host.given_up = f"{host.failing} times in a row: {reason}"
            case Denied(status):
                host.denied += 1
                if host.denied >= (DENIED_LATER if host.answered else DENIED_IN_A_ROW):
                    host.given_up = f"{host.denied} requests in a row were refused ({status})"
            case _:
                host.answered = True
                host.in_a_row = host.denied = host.failing = 0

    def _pause(self, host: Host, begun: float, reason: str, after_s: float | None) -> None:
        """Of those that were on their way together one counts."""
        if begun <= host.paused_at:
            return
        host.in_a_row += 1
        host.paused_at = self._now()
        longer_s = min(self._backoff_s * 2.0**host.in_a_row, LONGEST_BACKOFF_S)
        wait_s = random.uniform(0.5, 1.0) * longer_s if after_s is None else after_s  # noqa: S311 - no secret
        host.next_at = max(host.next_at, self._now() + wait_s)
        if wait_s > LONGEST_WAIT_S:
            host.given_up = f"{reason}, and wants to be left alone for {wait_s:.0f} s"
        elif host.in_a_row >= IN_A_ROW:
            host.given_up = f"{host.in_a_row} times in a row: {reason}"
