"""Notifications of a bucket on a Kafka topic, as S3, MinIO and others of its protocol send them.

    {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name"}, "object": {"key", …}}}, …]}

They are hints, never truth: they come late, twice, out of order, or not at all. So of each only the object's name is
taken, and what has become of it is asked of the bucket.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

from agents.kafka.reader import LogReader
from streams.errors import ConfigError
from streams.record import Record

KINDS = ("ObjectCreated", "ObjectRemoved", "LifecycleExpiration", "ObjectRestore")
"""Of events after which an object is another one, or gone, or can be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Up to where a topic was read: the next offset by partition. `log`: as `Described`."""

    log: str
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came since a place: names of objects, `s3://BUCKET/KEY`, some of which may be none. `strange`: records that
    are no notification."""

    names: frozenset[str]
    strange: int
    place: Place


class Notifications:
    """A topic of them. Reading it leaves nothing behind: whoever reads keeps the place."""

    def __init__(self, reader: LogReader, topic: str) -> None:
        self._reader = reader
        self._topic = topic

    async def end(self) -> Place:
        """Behind all that is there now. Raises ConfigError when there is no such topic."""
        found = await self._reader.describe(self._topic)
        if found is None:
            raise ConfigError(
                f"--events {self._topic}: there is no such topic, or this login may not see it: name the one that the "
                "bucket's notifications are sent to"
            )
        bounds = await self._reader.bounds(self._topic, range(found.partitions))
        return Place(log=found.log, offsets={partition: bound.end for partition, bound in bounds.items()})

    async def missed(self, place: Place) -> bool:
        """Whether something may have come since that place and be gone: by retention, or with the topic."""
        end = await self.end()
        bounds = await self._reader.bounds(self._topic, place.offsets) if end.log == place.log else {}
        return end.log != place.log or any(
            not bounds[partition].begin <= offset <= bounds[partition].end
            for partition, offset in place.offsets.items()
        )

    async def since(self, place: Place) -> Heard | None:
        """A page of each partition; None where nothing came. What retention took meanwhile is passed over."""
        end, names, strange = await self.end(), set[str](), 0
        offsets = dict(place.offsets)
        for partition, last in end.offsets.items():
            first = offsets.get(partition, 0)  # of a partition that was added all is new
            if first < last:
                page = await self._reader.page(self._topic, partition, first, last)
                offsets[partition] = page.position
                for record in page.records:
                    found = named(record)
                    strange += found is None
                    names |= found or set()
        if offsets == place.offsets:
            return None
        return Heard(names=frozenset(names), strange=strange, place=Place(log=end.log, offsets=offsets))


def named(record: Record) -> set[str] | None:
    """The objects that a notification is about; None for what is none.

    Keys are URL-encoded, with `+` for a space. Not everybody's are, so that one that may be read in several ways
    stands for each: there is no object of the others, or it is what it was.
    """
    try:
        told = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(told, dict):
        return None
    rows = told.get("Records")
    if not isinstance(rows, list):
        return set() if str(told.get("Event", "")).endswith("TestEvent") else None
    try:
        return {name for row in rows for name in _names(row)}
    except (KeyError, TypeError, AttributeError):
        return None


def _names(row: Any) -> Iterator[str]:
    if str(row["eventName"]).removeprefix("s3:").startswith(KINDS):
        bucket, key = row["s3"]["bucket"]["name"], row["s3"]["object"]["key"]
        for read in (unquote_plus(key), unquote(key), key):
            if "\N{REPLACEMENT CHARACTER}" not in read or read == key:
                yield f"s3://{bucket}/{read}"
