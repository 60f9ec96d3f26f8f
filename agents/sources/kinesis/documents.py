"""What becomes of a record: one to publish for each document in it, or the reason why it cannot be published.

Its data is a document in the wire format, as JSON with an `id`; or the partition key is the id. What is neither is
published as it is, and the worker dead-letters it, bytes, headers and reason: nothing is left out here but what no
topic would take. Without an id its key is empty, which no worker takes for a document.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import orjson

from agents.sources import LARGEST_BYTES, Outgoing
from agents.sources.kinesis import Given
from agents.sources.kinesis.aggregation import parts
from agents.sources.publish import size_of
from streams.record import Record, Rejected, decode, why_no_json

SHARD = "penstock.kinesis.shard"
SEQUENCE = "penstock.kinesis.sequence"
SUB_SEQUENCE = "penstock.kinesis.sub_sequence"
PARTITION_KEY = "penstock.kinesis.partition_key"
NO_ID = "an object with a string `id` is needed; it becomes the record's key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Which id a document has, after a prefix. `limit`: bytes of a record that the topic takes; 0: not known."""

    by: Literal["json", "partition-key"] = "json"
    prefix: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A record of a stream, or one of an aggregate: `sub`, and `last` for the last of it.

    `outgoing`: what to publish; None where no topic would take it. `reason`: why it is no document, if it is none.
    """

    shard: str
    sequence: str
    sub: int | None
    last: bool
    arrived_ms: int
    outgoing: Outgoing | None
    reason: str | None


def incoming(shard: str, given: Given, naming: Naming) -> Iterator[Incoming]:
    """Each that is in a record; none in an empty aggregate."""
    inside = parts(given.data)
    plain = [(given.partition_key, given.data)]
    count = 1 if inside is None else len(inside)
    for number, (partition_key, data) in enumerate(plain if inside is None else inside):
        sub = None if inside is None else number
        headers = [(SHARD, shard), (SEQUENCE, given.sequence), (PARTITION_KEY, partition_key)]
        if sub is not None:
            headers.append((SUB_SEQUENCE, str(sub)))
        key, value, reason = _document(partition_key, data, naming)
        place = f"{shard} {given.sequence}" + ("" if sub is None else f"/{sub}")
        outgoing = Outgoing(
            key=key, value=value, origin=place, headers=tuple((name, _encoded(text)) for name, text in headers)
        )
        limit = min(naming.limit or LARGEST_BYTES, LARGEST_BYTES)
        too_large = size_of(outgoing) > limit
        if too_large:
            reason = f"{size_of(outgoing)} bytes are more than the topic takes: raise its max.message.bytes ({limit})"
        yield Incoming(
            shard=shard,
            sequence=given.sequence,
            sub=sub,
            last=number == count - 1,
            arrived_ms=given.arrived_ms,
            outgoing=None if too_large else outgoing,
            reason=reason,
        )


def _document(partition_key: str, data: bytes, naming: Naming) -> tuple[bytes, bytes, str | None]:
    """Key and value, and why a worker would not take them."""
    key = _encoded(naming.prefix + partition_key)
    if naming.by == "json" or naming.prefix:
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            return key if naming.by != "json" else b"", data, f"not JSON in UTF-8: {why_no_json(data, exc)}"
        given = body.get("id") if isinstance(body, dict) else None
        if naming.by == "json" and not (isinstance(given, str) and given):
            return b"", data, NO_ID
        if isinstance(given, str) and given:
            if naming.by == "json":
                key = _encoded(naming.prefix + given)
            if naming.prefix:
                data = orjson.dumps({**body, "id": naming.prefix + given})
    found = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=key, value=data))
    return key, data, found.message if isinstance(found, Rejected) else None


def _encoded(text: str) -> bytes:
    """JSON can say what UTF-8 cannot."""
    return text.encode(errors="replace")
