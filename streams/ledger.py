"""Last stage: which records of one partition may enter, and up to where all are settled.

Claim(p, h): every record of partition p up to offset h is durable in the index, superseded there by a newer
record of its document, dead-lettered, or proved absent from the log. The ledger computes h; only claims are
ever stored. Faust delivers and does not decide: after a warm restart it may skip records, so only the record
that comes next in the log enters, and what is processed is contiguous whatever is delivered.

Offsets have holes, of which some logs are full: the markers of transactions, aborted records, what compaction took.
An answer of the broker to a fetch is contiguous, so it proves its own holes.
"""

from collections import deque
from enum import Enum


class Admission(Enum):
    """What to do with a delivered record."""

    ENTER = "enter"
    """Process it."""
    SKIP = "skip"
    """Below the expected offset: claimed already or in work; acknowledge nothing for it yet."""
    GAP = "gap"
    """There may be others between the expected offset and this one: drop it unacknowledged and seek back."""


class Ledger:
    """Progress of one assigned partition. Single-threaded; blocks and raises never, except where stated."""

    __slots__ = ("_expected", "_open", "_settled")

    def __init__(self, start: int) -> None:
        """`start`: the first offset to process: the claim + 1, or the log's start."""
        self._expected = start
        self._open: deque[int] = deque()
        self._settled: set[int] = set()

    @property
    def expected(self) -> int:
        """The least offset that may enter next."""
        return self._expected

    @property
    def claimable(self) -> int:
        """h of the greatest claim that is true now; `start - 1` before anything is settled."""
        return (self._open[0] if self._open else self._expected) - 1

    @property
    def open_count(self) -> int:
        """Records that entered and are not covered by `claimable`."""
        return len(self._open)

    def offer(self, offset: int, after: int) -> Admission:
        """Let the record at `offset` in, or say why not. The log is known to hold nothing from `after` up to it."""
        if offset < self._expected:
            return Admission.SKIP
        if after > self._expected:
            return Admission.GAP
        self._open.append(offset)
        self._expected = offset + 1
        return Admission.ENTER

    def step_over(self, offset: int) -> None:
        """Expect `offset` next: it was proved that the log holds nothing from `expected` up to it."""
        if offset < self._expected:
            raise ValueError(f"cannot step back from {self._expected} to {offset}")
        self._expected = offset

    def settle(self, offset: int) -> None:
        """The record at `offset` is durable, superseded or dead-lettered. Twice is harmless."""
        if self._open and self._open[0] <= offset < self._expected:
            self._settled.add(offset)
        while self._open and self._open[0] in self._settled:
            self._settled.remove(self._open.popleft())
