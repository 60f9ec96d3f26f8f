"""How often Kinesis is asked: what its quotas allow, and less after it refused."""

from dataclasses import dataclass

from streams.backoff import full_jitter_s

SHARD_BYTES_S = 2_000_000
"""That may be read of a shard, by all who do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between two pages of a shard, when it has more and when not; between two lists; and of backing off."""

    between_s: float = 0.2
    idle_s: float = 1.0
    list_s: float = 60.0
    backoff_s: float = 0.2
    longest_s: float = 10.0

    def after_page_s(self, size: int, *, over: bool) -> float:
        """Five pages a second, and 2 MB/s."""
        return self.idle_s if over else self.between_s * max(1.0, size / (SHARD_BYTES_S * 0.2))

    def after_refusal_s(self, attempt: int) -> float:
        """Full jitter, from the first attempt (1) on."""
        return full_jitter_s(attempt, self.backoff_s, self.longest_s)
