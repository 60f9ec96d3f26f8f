"""The oracle: what was produced, held against a full scan of the index.

Ids, text and hash of every chunk; versions not above the registry entry's; nothing missing, nothing extra but
stubs; a sample of vectors embedded again; every rejected record in the dead letters by its coordinates.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from elasticsearch import ApiError, TransportError

from agents.elastic import connect
from agents.index import split_rules
from models.embedder import Embedder
from streams.identity import chunk_id, entry_id, version
from streams.record import Document, Record, Rejected, decode
from streams.split import Chunk, chunk_document
from tests.harness import World

SAMPLE = 40


@dataclass(frozen=True)
class Expected:
    """What the index must hold: each document's newest valid record and its chunks; and what was rejected."""

    documents: dict[str, tuple[Record, list[Chunk]]]
    rejected: set[tuple[int, int]]


def expected(world: World, embedder: Embedder) -> Expected:
    """Computed from the ledger of what was produced."""
    rules = split_rules(world.settings, embedder.manifest)
    documents: dict[str, tuple[Record, list[Chunk]]] = {}
    rejected = set()
    for record in sorted(world.produced, key=lambda record: (record.partition, record.offset)):
        document = decode(record)
        chunks = chunk_document(document, rules, embedder.tokens.count) if isinstance(document, Document) else document
        if isinstance(chunks, Rejected):
            rejected.add((record.partition, record.offset))
        elif isinstance(document, Document):
            documents[document.id] = (record, chunks)
    return Expected(documents, rejected)


async def assert_true(
    world: World,
    embedder: Embedder,
    *,
    also_rejected: frozenset[tuple[int, int]] | set[tuple[int, int]] = frozenset(),
    ignore: frozenset[str] | set[str] = frozenset(),
) -> None:
    """Assert all of it. Call it when lag is 0.

    `also_rejected`: coordinates that a test had rejected by other means than their content. `ignore`: documents that
    it looked at itself.
    """
    want = expected(world, embedder)
    found, registry = await world.chunks(), await world.registry()
    found = {key: row for key, row in found.items() if row["metadata"]["doc_id"] not in ignore}
    alive = {key: row for key, row in found.items() if not row["penstock"]["stub"]}
    wanted = {
        chunk_id(doc_id, number): (record, chunk)
        for doc_id, (record, chunks) in want.documents.items()
        for number, chunk in enumerate(chunks)
    }
    assert alive.keys() == wanted.keys(), _difference(alive.keys() - wanted.keys(), wanted.keys() - alive.keys())
    for key, (_, chunk) in wanted.items():
        row = alive[key]
        assert row["text"] == chunk.text, key
        assert row["penstock"]["chunk_hash"] == hashlib.sha256(chunk.text.encode()).hexdigest(), key
        assert (row["metadata"].get("start"), row["metadata"].get("end")) == (chunk.start, chunk.end), key
    for doc_id, (record, chunks) in want.documents.items():
        entry = registry[entry_id(doc_id)]
        assert (entry["state"], entry["n"], entry["hi"]) == ("done", len(chunks), len(chunks)), doc_id
        assert entry["version"] == version(0, record.offset), doc_id
    for key, row in found.items():
        entry = registry[entry_id(row["metadata"]["doc_id"])]
        assert row["_version"] <= entry["version"], key
    letters = {_coordinates(letter.headers) for letter in await world.dead_letters()}
    assert letters == want.rejected | also_rejected
    await _assert_vectors(world, embedder, {key: chunk.text for key, (_, chunk) in wanted.items()})


@asynccontextmanager
async def no_regress(world: World) -> AsyncIterator[None]:
    """A reader that looks at every chunk again and again: the version of an id never goes back, no id goes away."""
    newest: dict[str, int] = {}
    problems: list[str] = []

    async def read() -> None:
        while True:
            try:
                found = await world.chunks()
            except (ApiError, TransportError):  # the server was taken away on purpose
                await asyncio.sleep(0.2)
                continue
            for key in newest.keys() - found.keys():
                problems.append(f"{key} is gone")
            for key, row in found.items():
                if row["_version"] < newest.get(key, 0):
                    problems.append(f"{key} went back from version {newest[key]} to {row['_version']}")
                newest[key] = row["_version"]
            await asyncio.sleep(0.2)

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), task.exception()
    assert not problems, problems[:10]
    assert newest, "the reader saw nothing"


async def _assert_vectors(world: World, embedder: Embedder, texts: dict[str, str]) -> None:
    ids = sorted(texts)[:: max(1, len(texts) // SAMPLE)]
    if not ids:
        return
    async with connect(world.settings.elasticsearch) as client:
        source: dict[str, object] = {"includes": ["vector"]}
        if world.servers.version >= "9.2":
            source["exclude_vectors"] = False  # left out of _source since 9.2 unless asked for
        answer = await client.search(index=world.name, query={"ids": {"values": ids}}, size=len(ids), source=source)
    rows = {hit["_id"]: hit["_source"]["vector"] for hit in answer["hits"]["hits"]}
    again = embedder.session.embed(embedder.tokens.encode([texts[key] for key in ids]), 1024)
    cosines = (np.asarray([rows[key] for key in ids], np.float32) * again).sum(axis=1)
    assert cosines.min() > 0.9999


def _coordinates(headers: list[tuple[str, bytes]]) -> tuple[int, int]:
    values = dict(headers)
    return int(values["__connect.errors.partition"]), int(values["__connect.errors.offset"])


def _difference(extra: set[str], missing: set[str]) -> str:
    return f"extra {sorted(extra)[:10]} ({len(extra)}), missing {sorted(missing)[:10]} ({len(missing)})"
