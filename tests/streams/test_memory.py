"""What one document takes: its writes are drawn body by body, and one that would take too much is a dead letter."""

import asyncio
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from streams.plan import ChunkWrite, FieldNames, Outcome, Space, Vectors, Written
from streams.protocol import Work, reuse, write
from streams.record import Document, Record, decode
from streams.registry import Entry, Stored
from streams.size import CHUNK_BYTES, VALUE_BYTES, made_bytes, room
from streams.split import Chunk, SplitRules, chunk_document

DIMS = 8
SPACE = Space(model="m", dims=DIMS, names=FieldNames())


class Server:
    """Takes writes one at a time; remembers how many were drawn beforehand."""

    def __init__(self) -> None:
        self.drawn = self.taken = self.ahead = self.asked = 0

    async def read(self, ids: Sequence[str], _: str) -> dict[str, Vectors]:
        self.asked = max(self.asked, len(ids))
        return {}

    async def stubs(self, ids: Sequence[str]) -> dict[str, int]:
        return {}

    async def origins(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        return {}

    async def write(self, writes: Iterable[ChunkWrite]) -> list[Outcome]:
        found: list[Outcome] = []
        for _ in self._counted(writes):
            self.ahead = max(self.ahead, self.drawn - self.taken)
            self.taken += 1
            found.append(Written(1, 1))
        return found

    def _counted(self, writes: Iterable[ChunkWrite]) -> Iterator[ChunkWrite]:
        for one in writes:
            self.drawn += 1
            yield one


def document(body: Any, key: bytes = b"doc") -> Document:
    value = orjson.dumps(body)
    found = decode(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    assert isinstance(found, Document)
    return found


def work(chunks: int, metadata: dict[str, Any], old: int = 0) -> Work:
    found = document({"chunks": [{"text": f"{n}"} for n in range(chunks)], "metadata": metadata})
    made = [Chunk(text=f"{n}", ids=[1], start=None, end=None, metadata={}) for n in range(chunks)]
    intent = Entry(
        doc_id="doc",
        partition=0,
        version=1,
        state="writing",
        n=chunks,
        hi=chunks,
        content_hash="",
        chunk_index_uuid="u",
    )
    stored = Stored(entry=intent, seq_no=0, primary_term=1)
    vectors = np.ones((chunks, DIMS), dtype=np.float32)
    return Work(found.record, 0, SPACE, document=found, chunks=made, intent=stored, old=old, vectors=vectors)


def test_writes_of_a_document_are_drawn_as_the_server_takes_them() -> None:
    """They were a list, each with its own copy of the metadata: 2.4 GB at a budget of 64 MiB."""
    server, one = Server(), work(2000, {f"key-{number}": number for number in range(2000)})
    beats: list[int] = []
    tracemalloc.start()
    try:
        asyncio.run(write([one], server, "2026-11-21T12:00:00Z", lambda: beats.append(server.taken)))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert (server.taken, server.ahead) == (2000, 1)
    assert beats == list(range(2000)), "and progress is seen"


def test_old_chunks_are_read_some_at_a_time() -> None:
    server, beats = Server(), []
    asyncio.run(reuse([work(10, {}, old=2000)], server, lambda: beats.append(1)))
    assert server.asked <= 256
    assert len(beats) == 8


def test_a_document_has_room_for_what_fits_the_budget() -> None:
    limit = 1024**2
    small = room(document({"text": "a"}), DIMS, limit)
    most, why = small.exact()
    assert most == pytest.approx(limit / (CHUNK_BYTES + 4 * DIMS), rel=0.01)
    assert small.sure == most, "so that nothing is looked at"
    assert "batch.max_inflight_bytes (1048576)" in why
    heavy = room(document({"text": "a", "metadata": {f"key-{n:05}": n for n in range(4000)}}), DIMS, limit)
    most, why = heavy.exact()
    assert heavy.sure <= most < 20
    assert "each is written with" in why
    assert room(document({"text": "a", "metadata": {"k": "x" * 900_000}}), DIMS, limit).exact()[0] == 0
    long = {"text": "ab", "sections": [{"start": 0, "end": 1, "heading": "é" * 1000}, {"start": 1, "end": 2}]}
    assert room(document(long), DIMS, limit).exact()[0] < limit / 2000, "each may have the heading"
    named = room(document({"text": "a"}, "\x01é".encode() * 4000), DIMS, limit)
    assert named.sure <= named.exact()[0] < 40, "each has its id"
    for body in ({}, {"title": "", "metadata": {}}, {"metadata": {"k": "x" * 5000}}, {"url": "é\n" * 3000}):
        bare = room(document({"text": "", **body}), 0, 2**40)
        assert 0 < bare.sure <= bare.exact()[0], "whatever it has"
    assert made_bytes(document({"text": "a", "metadata": {"k": [1, [2, {"a": 3}]]}}), 0, DIMS) == 6 * VALUE_BYTES


def test_a_section_takes_no_more_than_it_is_counted_for() -> None:
    count = 20_000
    rows = [{"start": n, "end": n + 1, "page": n + 1, "heading": f"Section {n}"} for n in range(1000, 1000 + count)]
    value = orjson.dumps({"text": "a" * (count + 1000), "sections": rows})
    given = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value)
    tracemalloc.start()
    try:
        made = decode(given)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert isinstance(made, Document)
    assert len(made.sections) == count
    assert held < VALUE_BYTES * made.values + len(value)


@pytest.mark.parametrize("tokens", [8, 256])
def test_a_chunk_takes_no_more_than_it_is_counted_for(tokens: int) -> None:
    """Beside its text, which is counted with the record, and its vector."""
    count = 5000
    texts = [f"{number:06}" for number in range(count)]
    given = document({"chunks": [{"text": text} for text in texts]})

    def encode(texts: Sequence[str]) -> list[Any]:
        return [np.ones(tokens, dtype=np.int32) for _ in texts]

    tracemalloc.start()
    try:
        made = chunk_document(given, SplitRules(max_chars=1000, overlap_chars=0, max_tokens=256), encode)
        outcomes = [Written(10**6 + number, 10**6) for number in range(count)]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert isinstance(made, list)
    assert len(outcomes) == count
    assert held / count < CHUNK_BYTES
