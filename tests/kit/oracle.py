"""The oracle on real servers: `streams.examine` over a full scan, a sample of vectors embedded again, and, where
documents have vectors of their own, each held against the mean of its chunks'."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import numpy as np
from elasticsearch import ApiError, TransportError

from agents.configured import routes_of, split_rules
from agents.elastic.client import connect
from agents.schemas.form import form_of
from models.onnx.embedder import OnnxEmbedder
from streams.contract import Described, spaces_of
from streams.document_vector import document_vector
from streams.epochs import Epochs
from streams.examine import Place, examine_all, expected_of
from streams.ids import chunk_id
from streams.plan import Space, Vectors
from streams.routes import Routing
from streams.split import Chunk
from tests.kit.embedders import load_at
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
    budgeted: bool = False,
) -> None:
    """Assert all of it. Call it when lag is 0.

    `also_rejected`: places that a test had rejected by other means than their content. `also_dead`: places whose
    dead letters are still there though the records were taken up again. `no_longer_dead`: places whose dead letters
    it deleted. `ignore`: documents that it looked at itself. `epochs`: cuts of the topic.
    `budgeted`: documents may have gone by the route of `budget.then`, each as its entry says.
    """
    models = [_model(world, name, embedder) for name in world.settings.models]
    spaces = spaces_of(world.contract(Described(partitions=1, log="")))
    registry = await world.registry()
    want = expected_of(
        world.produced,
        {model.manifest.name: (split_rules(world.settings, model.manifest), model.tokens.encode) for model in models},
        Routing(routes=routes_of(world.settings), spaces=spaces, refuge=world.settings.budget.refuge),
        epochs,
        form_of(world.settings),
        world.settings.quality.reject,
        {entry["doc_id"]: entry["content_hash"] for entry in registry.values()} if budgeted else {},
    )
    want.rejected.update(also_rejected)
    chunks = await world.chunks()
    chunks = {key: row for key, row in chunks.items() if row["metadata"]["doc_id"] not in ignore}
    registry = {key: entry for key, entry in registry.items() if entry["doc_id"] not in ignore}
    for doc_id in ignore:
        want.documents.pop(doc_id, None)
    dead = [place_of(letter.headers) for letter in await world.dead_letters()]
    findings = examine_all(
        want, chunks, registry, [*no_longer_dead, *(place for place in dead if place not in also_dead)]
    )
    assert not findings, (len(findings), findings[:10])
    for model, space in zip(models, spaces, strict=True):
        own = {doc: chunks for doc, (newest, chunks) in want.documents.items() if newest.model == space.model}
        texts = {chunk_id(doc, n): chunk.text for doc, chunks in own.items() for n, chunk in enumerate(chunks)}
        await _assert_vectors(world, model, space, texts, ignore)
        if space.names.document:
            await _assert_document_vectors(world, space, own)


def _model(world: World, name: str, embedder: OnnxEmbedder) -> OnnxEmbedder:
    """A test has one at hand; others are loaded once."""
    folder = world.settings.model.dir / name
    return embedder if name == embedder.manifest.name else _loaded(folder, world.speed)


@cache
def _loaded(folder: Path, speed: str) -> OnnxEmbedder:
    return load_at(speed, folder)


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


async def _assert_document_vectors(world: World, space: Space, documents: Mapping[str, Sequence[Chunk]]) -> None:
    """The first chunk of each document has it, and no other row."""
    assert space.names.document
    ids = {doc: [chunk_id(doc, number) for number in range(len(chunks))] for doc, chunks in documents.items()}
    rows = sorted(await world.chunks())
    own = await stored_vectors(world, rows, space.names.document)
    vectors = await stored_vectors(world, rows, space.names.vector)
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


async def _assert_vectors(
    world: World, embedder: OnnxEmbedder, space: Space, texts: dict[str, str], ignore: Collection[str]
) -> None:
    """Of a sample, of this model. No other row has a vector in its field, but those of the ignored documents."""
    field = space.names.vector
    async with connect(world.settings.elasticsearch) as client:
        await client.indices.refresh(index=world.name)
        others = {"terms": {"metadata.doc_id": sorted(ignore)}}
        query = {"bool": {"filter": {"exists": {"field": field}}, "must_not": others}}
        assert (await client.count(index=world.name, query=query))["count"] == len(texts)
    ids = sorted(texts)[:: max(1, len(texts) // SAMPLE)]
    if not ids:
        return
    async with connect(world.settings.elasticsearch) as client:
        source: dict[str, object] = {"includes": [field]}
        if world.servers.version >= "9.2":
            source["exclude_vectors"] = False  # left out of _source since 9.2 unless asked for
        answer = await client.search(index=world.name, query={"ids": {"values": ids}}, size=len(ids), source=source)
    rows = {hit["_id"]: hit["_source"][field] for hit in answer["hits"]["hits"]}
    again = embedder.session.embed(embedder.tokens.encode([texts[key] for key in ids]))
    cosines = (np.asarray([rows[key] for key in ids], np.float32) * again).sum(axis=1)
    assert cosines.min() > 0.9999


def place_of(headers: list[tuple[str, bytes]]) -> tuple[int, int]:
    values = dict(headers)
    return int(values["__connect.errors.partition"]), int(values["__connect.errors.offset"])
