"""What the core asks of the world. Each port has a fake in `streams.memory`; one suite holds both to what is said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.claim import Claim
from streams.plan import ChunkWrite, Outcome, Vectors
from streams.record import Record, Rejected
from streams.registry import Entry, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one partition: the first offset still there, and the one after the last that is committed or aborted."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """`record`: the first one found, or None; from `start` up to `position` the log holds no other.

    `start`: the offset that was asked for, or the log's start where that is later: what was between the two is lost.
    """

    record: Record | None
    position: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records in order, and where to go on. `start`: as in `Next`; the first offset that was looked at."""

    records: list[Record]
    position: int
    start: int


class Pages(Protocol):
    """A topic of the broker, read in order."""

    async def page(self, topic: str, partition: int, offset: int, end: int) -> Page:
        """Some committed records from `offset` on, below `end`: at least one, or a step over a hole; none at `end`.

        Raises PenstockError when the broker does not answer.
        """


class Log(Pages, Protocol):
    """Topics of the broker, read at any place. Every method raises PenstockError when the broker does not answer."""

    async def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, Bounds]:
        """Bounds as the broker knows them now, by partition."""

    async def written(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last record, by partition: above the bounds' end where a transaction is open."""

    async def next_from(self, topic: str, partition: int, offset: int) -> Next:
        """The first record at or after `offset`, committed ones only; it proves holes on its way."""

    async def records_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, Record]:
        """The records at exactly these offsets, by partition; absent where the log holds none there, or not any more.

        The offsets are below the log's end.
        """


class Claims(Protocol):
    """The claims of one group."""

    def read(self, partition: int) -> Claim | None:
        """The claim as known at the assignment. It may be an older one; that costs replay, nothing else."""

    async def write(self, partition: int, claim: Claim) -> None:
        """Returns when it is durable. Raises PenstockError where it cannot be made so: better to restart and replay."""


class DeadLetters(Protocol):
    """Where rejected records go."""

    async def send(self, rejected: Rejected, *, attempt: int, epoch: int) -> None:
        """Returns when it is durable; it may be there twice. Raises PenstockError where it cannot be made so."""


class Entries(Protocol):
    """The registry: reads are realtime, swaps are compare-and-swap."""

    async def read(self, doc_ids: Iterable[str]) -> dict[str, Stored]:
        """Entries as they are now; absent ones are left out."""

    async def swap(self, changes: Sequence[tuple[Entry, Stored | None]]) -> list[Stored | None]:
        """The new state of each entry, or None where the one that was read is not the present one."""


class Chunks(Protocol):
    """The chunk index: reads are realtime, and of two writes of an id the one of the greater version stays."""

    async def read(self, ids: Sequence[str], vector: str) -> dict[str, Vectors]:
        """Vectors by chunk hash, of this field; of ids that are absent, stubs, or have none there nothing."""

    async def stubs(self, ids: Sequence[str]) -> dict[str, int]:
        """Versions by id of those that are stubs now."""

    async def origins(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Partition and version of the record that each row was made of, stubs too; of absent ids nothing."""

    async def write(self, writes: Iterable[ChunkWrite]) -> list[Outcome]:
        """One outcome a write, in order. Draws as many as it sends at once: all of a document's may not fit memory."""
