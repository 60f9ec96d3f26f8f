"""Chunk writes: ids, versions, fields, and vectors that must not be written."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.flags import NOTHING, Verdict
from streams.ids import MAX_ID_BYTES, chunk_id, entry_id, version
from streams.plan import FieldNames, Space, content_writes, first_bad_vector, stub_writes
from streams.record import Document, Record, decode
from streams.split import Chunk

NOW = "2026-11-21T12:00:00.000Z"


def document() -> Document:
    value = b'{"text": "hello world", "title": "T", "url": "u", "metadata": {"lang": "en"}}'
    result = decode(Record(topic="t", partition=3, offset=41, timestamp_ms=0, key=b"doc", value=value))
    assert isinstance(result, Document)
    return result


CHUNKS = [
    Chunk(text="hello", ids=[1] * 3, start=0, end=5, metadata={}),
    Chunk(text="world", ids=[1] * 3, start=6, end=11, metadata={"page": 2}),
]


SPACE = Space(model="m", dims=4, names=FieldNames())
VERDICT = Verdict(flags=((), ("symbols",)), language="de", signature="AAA=")


def test_chunk_writes_carry_everything_a_reader_needs() -> None:
    vectors = np.eye(2, 4, dtype=np.float32)
    first, second = content_writes(
        document(),
        CHUNKS,
        vectors,
        epoch=1,
        space=replace(SPACE, names=FieldNames(text="body", vector="v")),
        indexed_at=NOW,
        verdict=VERDICT,
    )
    assert (first.id, first.version) == ("doc#0", (1 << 48) | 42)
    assert second.source["body"] == "world"
    assert second.source["v"] is not None
    assert second.source["metadata"] == {
        "source": "u",
        "title": "T",
        "doc_id": "doc",
        "chunk": 1,
        "chunks": 2,
        "start": 6,
        "end": 11,
        "language": "de",
        "custom": {"lang": "en", "page": 2},
    }
    assert second.source["penstock"]["stub"] is False
    assert len(second.source["penstock"].pop("chunk_hash")) == 64
    assert second.source["penstock"].pop("stub") is False
    assert second.source["penstock"] == {
        "topic": "t",
        "partition": 3,
        "offset": 41,
        "epoch": 1,
        "model": "m",
        "indexed_at": NOW,
        "flags": ("symbols",),
    }
    assert first.source["penstock"]["signature"] == "AAA="
    assert "flags" not in first.source["penstock"]


@pytest.mark.parametrize(
    ("own", "told"),
    [({"language": "fr"}, "fr"), ({"language": "x" * 99}, "de"), ({"language": 3}, "de"), ({"language": ""}, "de")],
)
def test_what_the_producer_says_of_the_language_wins(own: dict[str, Any], told: str) -> None:
    chunks = [CHUNKS[0], replace(CHUNKS[1], metadata=own)]
    vectors = np.eye(2, 4, dtype=np.float32)
    first, second = content_writes(document(), chunks, vectors, epoch=0, space=SPACE, indexed_at=NOW, verdict=VERDICT)
    assert (first.source["metadata"]["language"], second.source["metadata"]["language"]) == ("de", told)
    assert second.source["metadata"]["custom"] == {"lang": "en", **own}, "and it is told as it came"


def test_metadata_with_a_type_has_fields_of_its_own() -> None:
    names = FieldNames(metadata={"page": "integer", "year": "integer"})
    vectors = np.eye(2, 4, dtype=np.float32)
    first, second = content_writes(
        document(), CHUNKS, vectors, epoch=1, space=replace(SPACE, names=names), indexed_at=NOW, verdict=NOTHING
    )
    assert (second.source["metadata"]["page"], second.source["metadata"]["custom"]) == (2, {"lang": "en"})
    assert not {"page", "year"} & first.source["metadata"].keys(), "a field that the record lacks is absent"


def test_stubs_have_neither_text_nor_vector() -> None:
    (stub,) = stub_writes(document(), range(7, 8), epoch=0, model="m", indexed_at=NOW)
    assert stub.id == "doc#7"
    assert stub.source["penstock"]["stub"] is True
    assert set(stub.source) == {"metadata", "penstock"}


@pytest.mark.parametrize("bad", [[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 1]])
def test_zero_and_non_finite_vectors_are_found(bad: list[float]) -> None:
    vectors = np.asarray([[1, 0, 0], bad], dtype=np.float32)
    assert first_bad_vector(vectors) == 1
    writes = content_writes(document(), CHUNKS, vectors, epoch=0, space=SPACE, indexed_at=NOW, verdict=NOTHING)
    with pytest.raises(ValueError, match="chunk 1"):
        list(writes)


def test_versions_order_by_epoch_then_offset() -> None:
    assert version(0, 0) == 1
    assert version(0, 5) < version(0, 6) < version(1, 0)
    with pytest.raises(ValueError, match="does not fit"):
        version(0, 1 << 48)


def test_long_ids_are_hashed_within_the_servers_limit() -> None:
    assert chunk_id("a" * MAX_ID_BYTES, 3) == "a" * MAX_ID_BYTES + "#3"
    assert len(chunk_id("ü" * 400, 10**6).encode()) < 512
    assert entry_id("ü" * 400) != entry_id("ü" * 401)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["a#0", "a#0#1", "sha256:"]
)
long_ids = ids.map(lambda part: (part * MAX_ID_BYTES)[: MAX_ID_BYTES + 20])


@given(st.lists(ids | long_ids, min_size=1, max_size=4, unique=True), st.integers(0, 3))
def test_no_two_documents_have_one_id(documents: list[str], rounds: int) -> None:
    """Also not where one document is named as another one's hash is."""
    for _ in range(rounds):
        documents += [name for document in documents if (name := entry_id(document)) not in documents]
    assert len({entry_id(document) for document in documents}) == len(documents)
    assert len({chunk_id(document, chunk) for document in documents for chunk in range(3)}) == 3 * len(documents)
    assert all(len(chunk_id(document, 2**31).encode()) <= 512 for document in documents)
