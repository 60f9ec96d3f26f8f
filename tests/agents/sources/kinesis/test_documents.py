"""What a record becomes: a document, or something that a worker will not take for one."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources import Outgoing
from agents.sources.kinesis import Given
from agents.sources.kinesis.documents import NO_ID, Incoming, Naming, incoming
from streams.record import Document, Record, Rejected, decode
from tests.kit.aggregate import aggregate

BY_KEY = Naming(by="partition-key")
values = st.one_of(
    st.binary(max_size=40),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.one_of(st.text(max_size=5), st.integers(-(2**53), 2**53)),
            "text": st.text(max_size=10),
            "title": st.none(),
            "other": st.booleans(),
        },
    ).map(orjson.dumps),
)


def made(data: bytes, naming: Naming = Naming(), key: str = "key") -> list[Incoming]:  # noqa: B008 - frozen
    record = Given(sequence="7", partition_key=key, data=data, arrived_ms=1)
    return list(incoming("shard", record, naming))


def as_a_worker(outgoing: Outgoing) -> Document | Rejected:
    return decode(
        Record(topic="", partition=0, offset=0, timestamp_ms=0, key=outgoing.key, value=outgoing.value, headers=())
    )


@given(values, st.text(min_size=1, max_size=5), st.sampled_from(["json", "partition-key"]), st.sampled_from(["", "p/"]))
def test_a_worker_takes_what_is_a_document_and_nothing_else(data: bytes, key: str, by: str, prefix: str) -> None:
    naming = Naming(by="json" if by == "json" else "partition-key", prefix=prefix)
    (found,) = made(data, naming, key)
    assert found.outgoing
    told = as_a_worker(found.outgoing)
    assert isinstance(told, Rejected) == (found.reason is not None)
    if isinstance(told, Document):
        body = orjson.loads(data)
        assert told.id == prefix + (body["id"] if by == "json" else key)
        assert told.text == body["text"]


@pytest.mark.parametrize(
    ("data", "naming", "key", "part"),
    [
        (b'{"text": "A."}', Naming(), b"", NO_ID),
        (b"[]", Naming(), b"", NO_ID),
        (b"\xff", Naming(), b"", "not JSON in UTF-8: invalid start byte at byte 0"),
        (b'{"id": "a", "txt": ""}', Naming(), b"a", "did you mean `text`"),
        (b'{"id": "a", "text": "A."}', BY_KEY, b"key", "is not the record's key"),
        (b"", BY_KEY, b"key", "not JSON"),
    ],
)
def test_what_is_no_document_says_why(data: bytes, naming: Naming, key: bytes, part: str) -> None:
    (found,) = made(data, naming)
    assert found.outgoing
    assert found.outgoing.key == key
    assert part in (found.reason or "")
    assert found.outgoing.value == data


def test_an_aggregate_is_as_many_with_their_places() -> None:
    packed = aggregate([(f"k{n}", b'{"id": "d%d", "text": "T."}' % n) for n in range(3)])
    found = made(packed)
    assert [(one.sub, one.last) for one in found] == [(0, False), (1, False), (2, True)]
    headers = [dict(one.outgoing.headers) for one in found if one.outgoing]
    assert [told["penstock.kinesis.partition_key"] for told in headers] == [b"k0", b"k1", b"k2"]
    assert [told["penstock.kinesis.sub_sequence"] for told in headers] == [b"0", b"1", b"2"]
    assert {told["penstock.kinesis.sequence"] for told in headers} == {b"7"}
    assert made(aggregate([])) == []
    (damaged,) = made(packed[:-1])
    assert (damaged.sub, damaged.last, damaged.reason is None) == (None, True, False)


def test_what_no_topic_takes_is_not_published() -> None:
    (found,) = made(b'{"id": "a", "text": "%s"}' % (b"x" * 900), Naming(limit=1000))
    assert found.outgoing is None
    assert "raise its max.message.bytes (1000)" in (found.reason or "")
