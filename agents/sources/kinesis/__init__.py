"""Kinesis: a bridge from a stream into the source topic, record by record, in the order of its shards.

A record is (shard, sequence): sequences repeat across shards. In one that the producer library aggregated there are
many, told apart by their sub-sequence. How far each shard was read is remembered in the transaction of its records.
"""

from dataclasses import dataclass, field
from typing import Protocol

from streams.errors import AwayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Of a stream. `parents`: those that it was split or merged from, whether they are still there or not."""

    id: str
    parents: tuple[str, ...] = ()
    open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A record as Kinesis gives it. `arrived_ms`: about when it came, by Kinesis' clock."""

    sequence: str
    partition_key: str
    data: bytes
    arrived_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records from a place on. `iterator`: of the next page; None at the end of a shard that is closed.

    `behind_ms`: how far its last record is behind the newest of the shard. `now_ms`: by Kinesis' clock.
    """

    records: list[Given]
    iterator: str | None
    behind_ms: int
    now_ms: int
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A stream as it is now. `name`: its ARN. `made_ms`: when it was made: one made anew is another."""

    name: str
    made_ms: int
    retention_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to read a shard from: at a record, at a moment, or where it begins (neither)."""

    sequence: str | None = None
    at_ms: int | None = None


class ThrottledError(Exception):
    """Too many requests, or too much read of a shard: ask again, later."""


class ExpiredError(Exception):
    """The iterator is older than five minutes, or not one of the server's: get another one."""


class NoShardError(Exception):
    """The server knows no such shard. Only of one that is not listed either is that true: its retention has passed."""


class TrimmedError(Exception):
    """The shard does not know such a sequence, or does not take the moment."""


class MadeAnewError(AwayError):
    """The stream was deleted and made anew while it was read: it is to be begun with again."""


class Stream(Protocol):
    """What is read. Each raises AwayError when it may be there later, PenstockError when it will not."""

    async def describe(self) -> Described:
        """As it is now."""

    async def shards(self) -> list[Shard]:
        """All of them, also those that are closed and not yet gone."""

    async def iterator(self, shard: str, place: Place) -> str:
        """Of the page there. Raises ThrottledError, NoShardError, TrimmedError."""

    async def page(self, iterator: str, limit: int) -> Page:
        """So many records at most, perhaps none. Raises ThrottledError, ExpiredError, NoShardError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a shard was read.

    `sequence`: the last record of which anything was published; `sub`: the last of those in it, None when all are.
    `seen_ms`: nothing that came before is left to read; None of a shard that was there when the stream was begun with.
    `arrived_ms`: of that record. `ended`: closed, and read to its end.
    """

    sequence: str | None = None
    sub: int | None = None
    arrived_ms: int | None = None
    seen_ms: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What is not in the source topic and will not come: to be sent again.

    A stretch of a shard: behind the record `after` (None: from its beginning) and the moment `after_ms`, and before the
    record `before` (None: to its end) and `before_ms`. Or one record: `sequence`. `sub`: of one in an aggregate.
    """

    shard: str
    reason: str
    after: str | None = None
    after_ms: int | None = None
    before: str | None = None
    before_ms: int | None = None
    sequence: str | None = None
    sub: int | None = None


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run. `rejected`: records that are no documents: published, for workers to dead-letter.

    `missed`: all that is on the list, that of earlier runs too. `shards`: being read. `behind_ms`: of the shard that is
    behind most, by its last page. `up_to_s`: what came before then is published, epoch seconds; None before the first.
    """

    published: int = 0
    rejected: int = 0
    missed: list[Missed] = field(default_factory=list)
    shards: int = 0
    behind_ms: int = 0
    up_to_s: float | None = None
