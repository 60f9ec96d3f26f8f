"""Notifications of buckets, as several senders write them."""

import json
from typing import Any

import pytest

from agents.sources.notifications import named
from streams.record import Record


def record(value: Any) -> Record:
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Record(topic="events", partition=0, offset=0, timestamp_ms=0, key=b"k", value=raw)


def event(name: str, key: str, **rest: Any) -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key, **rest}}}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("docs/a.md", {"docs/a.md"}),
        ("docs/with+space.md", {"docs/with space.md", "docs/with+space.md"}),
        ("docs%2Fa%2Bb.md", {"docs/a+b.md", "docs%2Fa%2Bb.md"}),
        ("%C3%BCml%C3%A4ut%25.txt", {"ümläut%.txt", "%C3%BCml%C3%A4ut%25.txt"}),
        ("a//b/../c%0A.txt", {"a//b/../c\n.txt", "a//b/../c%0A.txt"}),
        ("%FF.txt", {"%FF.txt"}),
    ],
)
def test_a_key_is_read_in_each_way_it_may_be_meant(key: str, names: set[str]) -> None:
    told = {"Records": [event("ObjectCreated:Put", key, eTag="x", sequencer="1")]}
    assert named(record(told)) == {f"s3://b/{name}" for name in names}


def test_notifications_of_several_senders() -> None:
    minio = {"EventName": "s3:ObjectCreated:Put", "Key": "b/a.txt", "Records": [event("s3:ObjectCreated:Put", "a.txt")]}
    several = {"Records": [event("ObjectRemoved:DeleteMarkerCreated", "a"), event("ObjectCreated:Copy", "b")]}
    read = {"Records": [event("s3:ObjectAccessed:Get", "a"), event("ObjectTagging:Put", "b")]}
    assert named(record(minio)) == {"s3://b/a.txt"}
    assert named(record(several)) == {"s3://b/a", "s3://b/b"}
    assert named(record(read)) == set()
    assert named(record({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})) == set()


NONE: list[Any] = [None, b"", b"{", b"\xff", [], "text", {"Records": 1}, {"Records": [1]}, {"a": {"b": 1}}]
NONE += [{"Records": [event("ObjectCreated:Put", 5)]}, {"Records": [{"eventName": "ObjectCreated:Put", "s3": None}]}]  # type: ignore[arg-type]


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_notification_is_told_apart(value: Any) -> None:
    assert named(record(value)) is None
