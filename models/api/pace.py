"""When the next request may go: a part of what the whole fleet may ask and send a minute. Pure.

A worker takes the share of the fleet that it has of the topic's partitions, so that all together keep to the limits and
nobody has to coordinate them. Requests are spread evenly over the minute (GCRA: ITU-T I.371, A.2): a service counts in
windows of its own, of a minute or of a second, and a burst would be too much for some of them.

    a clock for requests, one for tokens: each request moves them on by what it takes of the minute
    a request may go when neither is far ahead of now, and the service did not ask to wait
"""

from dataclasses import dataclass

HEADROOM = 0.975
"""Of a limit that is used: two windows of one length may have a request more or less."""
SPARE_S = 0.75
"""How far ahead of now a clock may be: whoever is late by no more loses nothing."""
LARGEST_S = 0.25
"""So much of a minute one request should take of its tokens, so that they are spread evenly; a single text may take
more, and all may where there are few requests a minute."""
SMOOTHING = 0.2
LEAST_RATIO, LEAST_OF_BOUND, MOST_RATIO = 0.8, 0.05, 1.25
"""Between a service's own count of tokens and ours, where that is exact, and where it is an upper bound. Outside, it
counts something else: characters, or texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of the whole fleet; None: none."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Pace:
    """Of one worker. Times are monotonic seconds. `share`: of the fleet, 0 to 1."""

    def __init__(self, limits: Limits, *, exact: bool = False) -> None:
        """`exact`: whether tokens are counted by the model's tokenizer."""
        self._limits = limits
        self._least = LEAST_RATIO if exact else LEAST_OF_BOUND
        self.share = 1.0
        self._share = 1.0
        """By which the clocks went so far."""
        self._requests_at = self._tokens_at = float("-inf")
        self._held_until = float("-inf")
        self._ratio = 1.0

    def ask(self, now: float, tokens: int = 0) -> float:
        """0 when a request with so many tokens, by our count, may go now, else seconds to wait before asking again.

        One that takes more than it should, such as a single long text, waits for that beforehand, and the next
        ones wait for it afterwards: neither the minute before it has room for it nor the minute behind it.
        """
        self._adopt(now)
        cost_s = _seconds(self.expected(tokens), self._limits.tokens_per_minute, self.share)
        more_s = max(0.0, min(cost_s, 60.0) - LARGEST_S)
        due = max(self._requests_at - SPARE_S, self._tokens_at + more_s - SPARE_S, self._held_until)
        return max(0.0, due - now)

    def took(self, now: float, tokens: int) -> None:
        """A request with so many tokens goes now, by our count."""
        self._adopt(now)
        self._requests_at = self._moved(self._requests_at, now, 1, self._limits.requests_per_minute)
        self._tokens_at = self._moved(self._tokens_at, now, self.expected(tokens), self._limits.tokens_per_minute)

    def counted(self, tokens: int, by_service: int) -> None:
        """Of a request with `tokens` by our count it counted so many: what is expected of the next ones."""
        ratio = by_service / max(1, tokens)
        if self._least <= ratio <= MOST_RATIO:
            self._ratio += SMOOTHING * (ratio - self._ratio)

    def hold(self, until: float) -> None:
        """The service asked to wait."""
        self._held_until = max(self._held_until, until)

    def held(self, now: float) -> float:
        """Seconds that the service still asks to wait."""
        return max(0.0, self._held_until - now)

    def seconds_of(self, requests: int, tokens: int) -> float:
        """How long so much takes by the limits."""
        return max(
            _seconds(requests, self._limits.requests_per_minute, self.share),
            _seconds(self.expected(tokens), self._limits.tokens_per_minute, self.share),
        )

    def expected(self, tokens: int) -> float:
        """What the service will count of so many by our count."""
        return tokens * self._ratio

    def most_tokens(self, wanted: int) -> int:
        """Tokens that a request should have at most, by our count. `wanted`: by the service's."""
        limit, requests = self._limits.tokens_per_minute, self._limits.requests_per_minute
        if limit is None:
            return max(1, int(wanted / self._ratio))
        most = max(limit * self.share * LARGEST_S / 60, limit / requests if requests else 0.0)
        return max(1, int(min(wanted, most) / self._ratio))

    def _adopt(self, now: float) -> None:
        """A share that is another one now: what was taken by the one before is waited for by this one."""
        before, self._share = self._share, self.share
        if before != self._share:
            self._requests_at, self._tokens_at = (
                now + (clock - now) * before / self._share if clock > now else clock
                for clock in (self._requests_at, self._tokens_at)
            )

    def _moved(self, clock: float, now: float, cost: float, limit: int | None) -> float:
        if limit is None:
            return clock
        return max(clock, now) + _seconds(cost, limit, self.share)


def _seconds(cost: float, limit: int | None, share: float) -> float:
    return 0.0 if limit is None else cost * 60 / (limit * HEADROOM * share)
