"""How many of the last records were rejected: one bad record is a dead letter, most of a thousand is a mistake."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW = 1000
"""Records that a share is taken of; fewer count as if the rest had been fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Records of the present window, and the rejected ones among them. `stopped`: a worker ended because of them."""

    records: int = 0
    rejected: int = 0
    stopped: bool = False

    def plus(self, other: "Share") -> "Share":
        """Of both together."""
        return Share(
            records=self.records + other.records,
            rejected=self.rejected + other.rejected,
            stopped=self.stopped or other.stopped,
        )

    @classmethod
    def of_all(cls, shares: Iterable["Share"]) -> "Share":
        """Of all together."""
        return functools.reduce(cls.plus, shares, cls())

    def exceeds(self, ratio: float) -> bool:
        """Whether more than this share was rejected; 1 is never exceeded."""
        return self.rejected > ratio * max(WINDOW, self.records)

    @property
    def full(self) -> bool:
        """Whether the next window begins."""
        return self.records >= WINDOW
