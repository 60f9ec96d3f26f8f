"""The wire format: what is taken, what is rejected, and that nothing raises."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.record import Document, Record, Rejected, decode


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
        ({"text": "a", "chunks": []}, "exactly one"),
        ({"text": 3}, "`text` is a JSON number"),
        ({"text": "a", "titel": "b"}, "did you mean `title`?"),
        ({"text": "a", "id": "other"}, "is not the record's key"),
        ({"text": "a", "timestamp": "yesterday"}, "not a date"),
        ({"text": "a", "timestamp": True}, "JSON boolean"),
        ({"text": "a", "timestamp": 10**18}, "not a date"),
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
fields = st.sampled_from(["id", "text", "chunks", "title", "url", "author", "timestamp", "metadata", "x"])


@given(st.none() | st.binary() | st.dictionaries(fields, json_values).map(lambda value: _dump(value)))
def test_decode_never_raises(value: bytes | None) -> None:
    assert isinstance(decode(record(value)), Document | Rejected)


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate
        return b"{"
