"""The oracle on real servers: `streams.examine` over a full scan, a sample of vectors embedded again, and, where
documents have vectors of their own, each held against the mean of its chunks'."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np
from elasticsearch import ApiError, TransportError

from agents.configured import split_rules
from agents.elastic.client import connect
from agents.schemas.form import form_of
from models.onnx.embedder import OnnxEmbedder
from streams.document_vector import FIELD, document_vector
from streams.epochs import Epochs
from streams.examine import Place, examine_all, expected_of
from streams.ids import chunk_id
from streams.plan import Vectors
from streams.split import Chunk
from tests.kit.harness import World, meanwhile

SAMPLE = 40


async def assert_true(
    world: World,
    embedder: OnnxEmbedder,
    *,
    also_rejected: frozenset[Place] | set[Place] = frozenset(),
    also_dead: frozenset[Place] | set[Place] = frozenset(),
    no_longer_dead: frozenset[Place] | set[Place] = frozenset(),
    ignore: frozenset[str] | set[str] = frozenset(),
    epochs: Epochs | None = None,
) -> None:
    """Assert all of it. Call it when lag is 0.

    `also_rejected`: places that a test had rejected by other means than their content. `also_dead`: places whose
    dead letters are still there though the records were taken up again. `no_longer_dead`: places whose dead letters
    it deleted. `ignore`: documents that it looked at itself. `epochs`: cuts of the topic.
    """
    rules = split_rules(world.settings, embedder.manifest)
    want = expected_of(
        world.produced,
        rules,
        embedder.tokens.encode,
        epochs,
        form_of(world.settings),
        world.settings.quality.reject,
    )
    want.rejected.update(also_rejected)
    chunks, registry = await world.chunks(), await world.registry()
    chunks = {key: row for key, row in chunks.items() if row["metadata"]["doc_id"] not in ignore}
    registry = {key: entry for key, entry in registry.items() if entry["doc_id"] not in ignore}
    for doc_id in ignore:
        want.documents.pop(doc_id, None)
    dead = [place_of(letter.headers) for letter in await world.dead_letters()]
    findings = examine_all(
        want, chunks, registry, [*no_longer_dead, *(place for place in dead if place not in also_dead)]
    )
    assert not findings, (len(findings), findings[:10])
    await _assert_vectors(world, embedder, want.texts())
    if world.settings.split.document_vector != "none":
        await _assert_document_vectors(world, {doc: chunks for doc, (_, chunks) in want.documents.items()})


async def stored_vectors(world: World, ids: Sequence[str], field: str = "vector") -> dict[str, Vectors]:
    """Of these rows, by id; of those that have none nothing."""
    found: dict[str, Vectors] = {}
    async with connect(world.settings.elasticsearch) as client:
        for start in range(0, len(ids), 256):
            part = list(ids[start : start + 256])
            answer = await client.mget(index=world.name, ids=part, source_includes=field)
            rows = {row["_id"]: row.get("_source", {}) for row in answer["docs"]}
            found |= {key: np.asarray(row[field], np.float32) for key, row in rows.items() if field in row}
    return found


async def _assert_document_vectors(world: World, documents: Mapping[str, Sequence[Chunk]]) -> None:
    """The first chunk of each document has it, and no other row."""
    ids = {doc: [chunk_id(doc, number) for number in range(len(chunks))] for doc, chunks in documents.items()}
    rows = sorted(await world.chunks())
    own, vectors = await stored_vectors(world, rows, FIELD), await stored_vectors(world, rows)
    assert own.keys() == {keys[0] for keys in ids.values() if keys}
    for doc, keys in ids.items():
        if keys:
            mean = document_vector(np.stack([vectors[key] for key in keys]), [len(one.ids) for one in documents[doc]])
            assert mean is not None
            assert own[keys[0]] @ mean > 0.99999, doc


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

    async with meanwhile(read()):
        yield
    assert not problems, problems[:10]
    assert newest, "the reader saw nothing"


async def _assert_vectors(world: World, embedder: OnnxEmbedder, texts: dict[str, str]) -> None:
    ids = sorted(texts)[:: max(1, len(texts) // SAMPLE)]
    if not ids:
        return
    async with connect(world.settings.elasticsearch) as client:
        source: dict[str, object] = {"includes": ["vector"]}
        if world.servers.version >= "9.2":
            source["exclude_vectors"] = False  # left out of _source since 9.2 unless asked for
        answer = await client.search(index=world.name, query={"ids": {"values": ids}}, size=len(ids), source=source)
    rows = {hit["_id"]: hit["_source"]["vector"] for hit in answer["hits"]["hits"]}
    again = embedder.session.embed(embedder.tokens.encode([texts[key] for key in ids]))
    cosines = (np.asarray([rows[key] for key in ids], np.float32) * again).sum(axis=1)
    assert cosines.min() > 0.9999


def place_of(headers: list[tuple[str, bytes]]) -> tuple[int, int]:
    values = dict(headers)
    return int(values["__connect.errors.partition"]), int(values["__connect.errors.offset"])
