"""The wire format: what is taken, what is rejected, and that nothing raises."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.elastic.bulk import encode
from agents.elastic.store import Operation
from streams.flags import NOTHING
from streams.plan import FieldNames, Space, content_writes
from streams.record import MAX_ID_CHARS, MAX_METADATA_DEPTH, MAX_NESTING, Document, Record, Rejected, decode
from streams.split import Chunk

SPACE = Space(model="m", dims=2, names=FieldNames())


def record(value: object, key: bytes | None = b"doc") -> Record:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return Record(topic="documents", partition=0, offset=7, timestamp_ms=0, key=key, value=raw)


def accepted(value: object) -> Document:
    result = decode(record(value))
    assert isinstance(result, Document), result
    return result


def reason(value: object, key: bytes | None = b"doc") -> str:
    result = decode(record(value, key))
    assert isinstance(result, Rejected), result
    assert result.stage == "decode"
    return result.message


def test_whole_document() -> None:
    document = accepted(
        {
            "id": "doc",
            "text": "hello",
            "title": "T",
            "url": "https://example.org",
            "author": "A",
            "timestamp": "2026-11-21T13:00:00+01:00",
            "metadata": {"lang": "en", "tags": ["a", "b"]},
        }
    )
    assert document.text == "hello"
    assert document.timestamp == "2026-11-21T12:00:00.000Z"
    assert document.metadata == {"lang": "en", "tags": ["a", "b"]}


@pytest.mark.parametrize("when", [1712050612345, "1712050612345", "2024-04-02T09:36:52.345", "20240402T093652.345Z"])
def test_a_time_in_any_form(when: object) -> None:
    """Digits alone are milliseconds: as ISO 8601 without separators these would be a day of the year 1712."""
    assert accepted({"text": "a", "timestamp": when}).timestamp == "2024-04-02T09:36:52.345Z"


@pytest.mark.parametrize("empty", [{"chunks": []}, {"chunks": [], "sections": []}, {"timestamp": "", "title": ""}])
def test_what_encodings_without_null_have_in_place_of_nothing(empty: dict[str, Any]) -> None:
    document = accepted({"text": "a", **empty})
    assert (document.text, document.chunks, document.timestamp) == ("a", None, None)
    document = accepted({"text": "", "chunks": [{"text": "one"}]})
    assert document.text is None
    assert [chunk.text for chunk in document.chunks or ()] == ["one"]


def test_given_chunks() -> None:
    document = accepted({"chunks": [{"text": "one"}, {"text": "two", "metadata": {"page": 2}}]})
    assert document.chunks is not None
    assert [(chunk.text, chunk.metadata) for chunk in document.chunks] == [("one", {}), ("two", {"page": 2})]


def test_tombstone_has_neither_text_nor_chunks() -> None:
    document = accepted(None)
    assert document.text is None
    assert document.chunks is None


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"\xff\xfe", "not JSON"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": NaN}', "not JSON"),
        (b"[1]", "JSON list"),
        (b"null", "JSON null"),
        ({}, "exactly one of `text` and `chunks`"),
        ({"text": "a", "chunks": [{"text": "b"}]}, "exactly one"),
        ({"text": 3}, "`text` is a JSON number"),
        ({"text": "a", "titel": "b"}, "did you mean `title`?"),
        ({"text": "a", "id": "other"}, "is not the record's key"),
        ({"text": "a", "timestamp": "yesterday"}, "not a date"),
        ({"text": "a", "timestamp": True}, "JSON boolean"),
        ({"text": "a", "timestamp": 10**18}, "not a date"),
        ({"text": "a", "timestamp": "20240102030405"}, "not a date"),
        ({"text": "a", "metadata": [1]}, "JSON list"),
        ({"text": "a", "metadata": {"": 1}}, "empty key"),
        ({"text": "a", "metadata": {"k": "a\0b"}}, "NUL"),
        ({"text": "a", "metadata": {"k" * 600: 1}}, "longer than 512 bytes"),
        ({"chunks": [{"text": " "}]}, "`chunks[0].text`"),
        ({"chunks": "x"}, "JSON string"),
        ({"chunks": [{"text": "a", "page": 1}]}, "chunks[0]."),
    ],
)
def test_bad_values_are_rejected_with_the_reason(value: object, part: str) -> None:
    assert part in reason(value)


def test_deep_metadata_is_rejected() -> None:
    nested: dict[str, object] = {}
    for _ in range(25):
        nested = {"k": nested}
    assert "nested deeper" in reason({"text": "a", "metadata": nested})


@pytest.mark.parametrize("key", [None, b""])
def test_no_key_names_the_fix(key: bytes | None) -> None:
    assert "set the document's id as the record key" in reason({"text": "a"}, key)


def test_key_that_is_not_utf8() -> None:
    assert "not UTF-8" in reason({"text": "a"}, b"\xff")


def test_value_that_is_not_utf8_names_the_byte() -> None:
    told = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=b"k", value=b'{"text": "caf\xe9"}'))
    assert isinstance(told, Rejected)
    assert told.message.endswith("not JSON in UTF-8: invalid continuation byte at byte 13")


def test_key_too_long_for_a_keyword_would_be_copied_into_every_chunk() -> None:
    assert isinstance(decode(record({"text": "a"}, "é".encode() * MAX_ID_CHARS)), Document)
    told = reason({"text": "a"}, "é".encode() * (MAX_ID_CHARS + 1))
    assert told == "the key has 8192 characters, and a document's id has 8191 at most: use a hash of it"
    assert "8192 characters" in reason(None, b"k" * 8192)  # a deletion, too: nothing of that name can be there


def test_message_never_holds_a_whole_text() -> None:
    assert len(reason({"text": "a", "id": "x" * 10_000})) < 300


def test_hash_covers_metadata_and_not_the_order_of_fields() -> None:
    one = accepted({"text": "a", "metadata": {"x": 1, "y": 2}})
    same = accepted({"metadata": {"y": 2, "x": 1}, "text": "a"})
    other = accepted({"text": "a", "metadata": {"x": 1, "y": 3}})
    assert one.content_hash == same.content_hash != other.content_hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["id", "text", "chunks", "sections", "title", "url", "author", "timestamp", "metadata", "x"])


@given(st.none() | st.binary() | st.dictionaries(fields, json_values).map(lambda value: _dump(value)))
def test_decode_never_raises(value: bytes | None) -> None:
    result = decode(record(value))
    assert isinstance(result, Rejected) or written(result)


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate
        return b"{"


def written(document: Document) -> bytes:
    """The document's first chunk as the body of a bulk request."""
    chunks = [Chunk(text="text", ids=[1], start=0, end=4, metadata=document.metadata)]
    vectors = np.ones((1, 2), dtype=np.float32)
    (write,) = content_writes(document, chunks, vectors, epoch=0, space=SPACE, indexed_at="", verdict=NOTHING)
    return encode(Operation(action="index", meta={"_id": write.id}, source=write.source))


def nested(around: bytes, inside: bytes, depth: int) -> bytes:
    """Objects (`around` is `{"k":`) or lists (`[`), one in another."""
    return around * depth + inside + (b"}" if around.startswith(b"{") else b"]") * depth


DEPTHS = [
    *range(1, 30),
    *range(MAX_NESTING - 3 + 4),
    *range(120, 130),
    *range(245, 260),
    300,
    1000,
    1023,
    2000,
]


@pytest.mark.parametrize("around", [b'{"k":', b"[", b'[{"k":1},'])
@pytest.mark.parametrize("place", ["id", "text", "chunks", "title", "timestamp", "metadata", "unknown", "in a chunk"])
def test_json_of_any_depth_is_written_or_rejected(around: bytes, place: str) -> None:
    """Before the record was looked at it was hashed, and a number of libraries have limits of their own."""
    for depth in DEPTHS:
        value = nested(around, b"1", depth)
        if place == "in a chunk":
            body = b'{"chunks": [{"text": "a", "metadata": {"k": %b}}]}' % value
        elif place == "metadata":
            body = b'{"text": "a", "metadata": {"k": %b}}' % value
        else:
            body = b'{"%b": %b}' % (place.encode(), value)
        result = decode(record(body))
        if isinstance(result, Document):
            assert written(result)
        else:
            assert len(result.message) < 300, result.message


def test_metadata_up_to_the_limits_is_taken() -> None:
    assert written(accepted(b'{"text": "a", "metadata": %b}' % nested(b'{"k":', b"1", MAX_METADATA_DEPTH - 1)))
    assert written(accepted(b'{"text": "a", "metadata": {"k": %b}}' % nested(b"[", b"1", MAX_NESTING - 1)))
    assert "20 levels" in reason(b'{"text": "a", "metadata": %b}' % nested(b'{"k":', b"1", MAX_METADATA_DEPTH))
    assert "lists nested deeper" in reason(b'{"text": "a", "metadata": {"k": %b}}' % nested(b"[", b"1", MAX_NESTING))


def test_an_id_that_is_a_deep_list_is_named_and_not_quoted() -> None:
    assert "`id` in the body (a JSON list) is not" in reason(b'{"text": "a", "id": %b}' % nested(b"[", b"", 1000))


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"1e999",
        b"1e-999",
        b"-0",
        b"01",
        b"123456789012345678901234567890",
        b"-9223372036854775809",
        b"18446744073709551615",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\\u0000"',
        b'"\xff"',
        b"",
    ],
)
@pytest.mark.parametrize(
    "body", [b'{"text": %b}', b'{"text": "a", "timestamp": %b}', b'{"text": "a", "metadata": {"k": %b}}']
)
def test_odd_values_are_written_or_rejected(value: bytes, body: bytes) -> None:
    result = decode(record(body % value))
    assert isinstance(result, Rejected) or written(result)


def test_of_a_repeated_key_the_last_counts() -> None:
    assert accepted(b'{"text": "a", "text": "b", "metadata": {"k": 1, "k": 2}}').metadata == {"k": 2}


def test_very_many_keys_are_taken() -> None:
    document = accepted({"text": "a", "metadata": {f"k{number}": number for number in range(100_000)}})
    assert written(document)


def test_for_an_unknown_name_of_megabytes_no_near_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search took 590 MB for a name of 15 MB."""
    monkeypatch.setattr("difflib.get_close_matches", lambda *_, **__: pytest.fail("looked for a near name"))
    message = reason(b'{"text": "a", "%b": 1}' % (b"x" * 15_000_000))
    assert "unknown field `'xxx" in message
    assert len(message) < 300


def test_headers_count() -> None:
    one = Record(
        topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=None, headers=(("name", b"x" * 900),)
    )
    assert one.size_bytes > 900
