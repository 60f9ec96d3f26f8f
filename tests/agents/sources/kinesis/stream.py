"""A stream in memory: splits, merges, retention, throttling and iterators that expire."""

import random
from dataclasses import dataclass, field

from agents.sources.kinesis import (
    Described,
    ExpiredError,
    Given,
    NoShardError,
    Page,
    Place,
    Shard,
    ThrottledError,
    TrimmedError,
)

RETENTION_MS = 24 * 3600 * 1000
SPACE = 64
"""Of hashes."""


@dataclass
class MemoryShard:
    """With the hashes that it takes. `first`: the number of its first record that is still there."""

    id: str
    begin: int
    end: int
    parents: tuple[str, ...] = ()
    open: bool = True
    records: list[Given] = field(default_factory=list)
    first: int = 0


class MemoryStream:
    """`Stream`. Each shard counts its sequences from 1: they repeat. `refuses`: how often it says no, of ten.

    `lies`: so many times it says that a shard which is there is not.
    """

    def __init__(self, shards: int = 2, seed: int = 0, refuses: int = 0, lies: int = 0) -> None:
        step = SPACE // shards
        self.shards_by_id = {
            f"shard-{n}": MemoryShard(f"shard-{n}", n * step, SPACE if n == shards - 1 else (n + 1) * step)
            for n in range(shards)
        }
        self.made_ms = 1
        self.now_ms = RETENTION_MS * 10
        self.refuses = refuses
        self.lies = lies
        self.asked: list[str] = []
        self._random = random.Random(seed)

    def put(self, key: str, data: bytes) -> tuple[str, str]:
        """Into the open shard of the key; shard and sequence."""
        place = sum(key.encode()) * 7 % SPACE
        (shard,) = (one for one in self.shards_by_id.values() if one.open and one.begin <= place < one.end)
        self.now_ms += 1
        sequence = str(len(shard.records) + 1)
        shard.records.append(Given(sequence=sequence, partition_key=key, data=data, arrived_ms=self.now_ms))
        return shard.id, sequence

    def split(self, number: int) -> None:
        """An open shard, by its place among them, in two."""
        shard = self._open(number)
        if shard.end - shard.begin > 1:
            middle = (shard.begin + shard.end) // 2
            shard.open = False
            self._add(shard.begin, middle, shard.id)
            self._add(middle, shard.end, shard.id)

    def merge(self, number: int) -> None:
        """An open shard, and the one that takes the next hashes."""
        shard = self._open(number)
        for other in [one for one in self.shards_by_id.values() if one.open and one.begin == shard.end]:
            shard.open = other.open = False
            self._add(shard.begin, other.end, shard.id, other.id)

    def _open(self, number: int) -> MemoryShard:
        found = [shard for shard in self.shards_by_id.values() if shard.open]
        return found[number % len(found)]

    def _add(self, begin: int, end: int, *parents: str) -> None:
        name = f"shard-{self._random.randrange(1000):03}-{len(self.shards_by_id)}"  # in no order
        self.shards_by_id[name] = MemoryShard(name, begin, end, parents)

    def pass_retention(self, ms: int = RETENTION_MS + 120_000) -> None:
        """Time passes, and what is too old goes; a closed shard with its last record."""
        self.now_ms += ms
        for shard in list(self.shards_by_id.values()):
            while shard.first < len(shard.records) and shard.records[shard.first].arrived_ms < self._horizon_ms:
                shard.first += 1
            if not shard.open and shard.first == len(shard.records):
                del self.shards_by_id[shard.id]

    @property
    def _horizon_ms(self) -> int:
        return self.now_ms - RETENTION_MS

    async def describe(self) -> Described:
        """As it is now."""
        return Described(name="arn:memory", made_ms=self.made_ms, retention_ms=RETENTION_MS, now_ms=self.now_ms)

    async def shards(self) -> list[Shard]:
        """Those that are not gone."""
        return [Shard(id=one.id, parents=one.parents, open=one.open) for one in self.shards_by_id.values()]

    async def iterator(self, shard: str, place: Place) -> str:
        """`shard number`, of the record that is read next."""
        self._refuse(ThrottledError)
        if shard not in self.shards_by_id:
            raise NoShardError
        found = self.shards_by_id[shard]
        if place.sequence is not None:
            if int(place.sequence) > len(found.records):
                raise TrimmedError
            return f"{shard} {max(found.first, int(place.sequence) - 1)}"
        if place.at_ms is not None:
            if place.at_ms > self.now_ms:
                raise TrimmedError
            older = sum(record.arrived_ms < place.at_ms for record in found.records)
            return f"{shard} {max(found.first, older)}"
        return f"{shard} {found.first}"

    async def page(self, iterator: str, limit: int) -> Page:
        """Three at most."""
        self._refuse(ThrottledError)
        self._refuse(ExpiredError)
        name, number = iterator.split()
        self.asked.append(name)
        if self.lies:
            self.lies -= 1
            raise NoShardError
        if name not in self.shards_by_id:
            raise NoShardError
        shard, begin = self.shards_by_id[name], max(int(number), self.shards_by_id[name].first)
        records = shard.records[begin : begin + min(limit, self._random.randint(0, 3))]
        end = begin + len(records)
        over = end == len(shard.records)
        return Page(
            records=records,
            iterator=None if over and not shard.open else f"{name} {end}",
            behind_ms=0 if over else 1000,
            now_ms=self.now_ms,
        )

    def _refuse(self, error: type[Exception]) -> None:
        if self._random.randrange(10) < self.refuses:
            raise error
