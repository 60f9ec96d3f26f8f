"""The ports in memory: for tests, and for whoever tries the stages without servers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streams.claim import Claim
from streams.ids import version
from streams.plan import ChunkWrite, Conflict, Outcome, Vectors, Written
from streams.ports import Bounds, Next, Page
from streams.record import Record, Rejected
from streams.registry import Entry, Stored

PAGE = 500


@dataclass
class Partition:
    """Records by offset, ascending. `end`: of the log, also where its last offsets hold no record.

    `held_back`: so many offsets from there on are behind an open transaction.
    """

    records: dict[int, Record] = field(default_factory=dict)
    begin: int = 0
    end: int = 0
    held_back: int = 0

    def append(self, record: Record) -> None:
        """At its own offset, which is not below the end: those between hold nothing."""
        self.records[record.offset] = record
        self.end = record.offset + 1

    def delete_before(self, offset: int) -> None:
        """What retention does: what is below is gone."""
        self.begin, self.end = max(self.begin, offset), max(self.end, offset)
        self.records = {place: record for place, record in self.records.items() if place >= offset}


class MemoryLog:
    """`Log`, of one topic, whatever its name."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = [Partition() for _ in range(partitions)]

    async def bounds(self, _: str, partitions: Iterable[int]) -> dict[int, Bounds]:
        found = {number: self.partitions[number] for number in partitions}
        return {number: Bounds(begin=one.begin, end=one.end) for number, one in found.items()}

    async def written(self, _: str, partitions: Iterable[int]) -> dict[int, int]:
        found = {number: self.partitions[number] for number in partitions}
        return {number: one.end + one.held_back for number, one in found.items()}

    async def next_from(self, _: str, partition: int, offset: int) -> Next:
        log = self.partitions[partition]
        start = max(offset, log.begin)
        record = next((record for place, record in log.records.items() if place >= start), None)
        return Next(record=record, position=record.offset if record else max(start, log.end), start=start)

    async def records_at(self, _: str, offsets: Mapping[int, int]) -> dict[int, Record]:
        found = {number: self.partitions[number].records.get(offset) for number, offset in offsets.items()}
        return {number: record for number, record in found.items() if record is not None}

    async def page(self, _: str, partition: int, offset: int, end: int) -> Page:
        log = self.partitions[partition]
        start = min(end, max(offset, log.begin))
        records = [record for place, record in log.records.items() if start <= place < end][:PAGE]
        return Page(records=records, position=records[-1].offset + 1 if len(records) == PAGE else end, start=start)


@dataclass
class MemoryClaims:
    """`Claims`."""

    claims: dict[int, Claim] = field(default_factory=dict)

    def read(self, partition: int) -> Claim | None:
        return self.claims.get(partition)

    async def write(self, partition: int, claim: Claim) -> None:
        self.claims[partition] = claim


@dataclass
class MemoryDeadLetters:
    """`DeadLetters`: each with its attempt and epoch."""

    sent: list[tuple[Rejected, int, int]] = field(default_factory=list)

    async def send(self, rejected: Rejected, *, attempt: int, epoch: int) -> None:
        self.sent.append((rejected, attempt, epoch))


class MemoryEntries:
    """`Entries`."""

    def __init__(self) -> None:
        self._rows: dict[str, Stored] = {}
        self._writes = 0

    async def read(self, doc_ids: Iterable[str]) -> dict[str, Stored]:
        return {doc_id: self._rows[doc_id] for doc_id in doc_ids if doc_id in self._rows}

    async def swap(self, changes: Sequence[tuple[Entry, Stored | None]]) -> list[Stored | None]:
        return [self._swap(entry, before) for entry, before in changes]

    def _swap(self, entry: Entry, before: Stored | None) -> Stored | None:
        now = self._rows.get(entry.doc_id)
        if (now and now.seq_no) != (before and before.seq_no):
            return None
        self._rows[entry.doc_id] = stored = Stored(entry=entry, seq_no=self._writes, primary_term=1)
        self._writes += 1
        return stored


class MemoryChunks:
    """`Chunks`. `rows`: the newest write of each id."""

    def __init__(self) -> None:
        self.rows: dict[str, ChunkWrite] = {}

    async def read(self, ids: Sequence[str], vector: str) -> dict[str, Vectors]:
        found = [self.rows[key].source for key in ids if key in self.rows]
        told = [(row.get("penstock", {}).get("chunk_hash"), row.get(vector)) for row in found]
        return {key: np.asarray(vector, dtype=np.float32) for key, vector in told if key and vector is not None}

    async def stubs(self, ids: Sequence[str]) -> dict[str, int]:
        return {key: self.rows[key].version for key in ids if key in self.rows and self.rows[key].stub}

    async def origins(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        own = {key: self.rows[key].source["penstock"] for key in ids if key in self.rows}
        return {key: (row["partition"], version(row["epoch"], row["offset"])) for key, row in own.items()}

    async def write(self, writes: Iterable[ChunkWrite]) -> list[Outcome]:
        return [self._write(one) for one in writes]

    def _write(self, one: ChunkWrite) -> Outcome:
        before = self.rows.get(one.id)
        if before and (one.version < before.version or (one.version == before.version and not one.over_equal)):
            return Conflict()
        self.rows[one.id] = one
        return Written(len(self.rows), 1)
