"""Documents through a real worker into a real index: written, edited, shrunk, deleted, restarted."""

import asyncio

from agents.elastic.client import connect
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import PENSTOCK, World
from tests.kit.oracle import assert_true

LONG = "A sentence about penstocks and turbines, number {}. " * 60


def test_document_life_on_both_majors(world_on_either: World, embedder: OnnxEmbedder) -> None:
    world = world_on_either

    async def scenario() -> None:
        await world.create()
        await world.produce(
            (f"doc-{i}".encode(), {"text": LONG.format(*range(60)), "title": f"T{i}"}) for i in range(8)
        )
        await world.produce(
            [
                (b"given", {"chunks": [{"text": "first"}, {"text": "second", "metadata": {"page": 2}}]}),
                ("schlüssel/日本".encode(), {"text": "Ein kurzer Text.", "timestamp": "2026-01-02T03:04:05+02:00"}),
                (b"x" * 600, {"text": "a key longer than an _id may be"}),
            ]
        )
        worker = world.start_worker()
        await world.settled(worker=worker)
        await world.produce(
            [
                (b"doc-0", {"text": "It shrank."}),
                (b"doc-1", None),
                (b"doc-2", {"text": ""}),
                (b"doc-3", {"text": LONG + LONG}),
                (b"doc-1", None),
            ]
        )
        await world.settled(worker=worker)
        await world.produce([(b"doc-1", {"text": "It came back."})])
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_metadata_with_a_type_is_searched_by_it_and_refused_without_it(world: World) -> None:
    variables = {"PENSTOCK_ELASTICSEARCH__METADATA_FIELDS": '{"year": "integer"}'}
    fields = world.settings.elasticsearch.model_copy(update={"metadata_fields": {"year": "integer"}})
    world.settings = world.settings.model_copy(update={"elasticsearch": fields})

    async def scenario() -> None:
        await world.create()
        years = {b"old": 1999, b"new": 2024, b"none": None, b"wrong": "not a year"}
        await world.produce(
            (key, {"text": "A text.", "metadata": {"year": year, "lang": "en"}}) for key, year in years.items()
        )
        worker = world.start_worker(variables)
        await world.settled(worker=worker)
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.refresh(index=world.name)
            query = {"range": {"metadata.year": {"gte": 2000}}}
            hits = (await client.search(index=world.name, query=query))["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["new#0"]
        (letter,) = await world.dead_letters()
        assert letter.key == b"wrong"
        assert worker.terminate() == 0
        refuses = world.start_worker()  # without the setting: another contract
        assert await refuses.ended() == 3
        assert "fields.metadata.year: index integer, worker absent" in refuses.log.read_text()

    asyncio.run(scenario())


def test_restart_embeds_nothing_that_was_claimed(world: World, embedder: OnnxEmbedder) -> None:
    async def scenario() -> None:
        await world.create()
        await world.produce((f"doc-{i}".encode(), {"text": f"Document {i}."}) for i in range(50))
        first = world.start_worker()
        await world.settled(worker=first)
        assert first.terminate() == 0
        second = world.start_worker(command=[str(PENSTOCK.with_name("faust")), "-A", "agents", "worker", "-l", "info"])
        await world.ready(second)
        await world.produce([(b"one more", {"text": "One more."})])
        await world.settled(worker=second)
        assert second.metrics()["penstock_chunks_embedded_total"] == 1
        assert second.terminate() == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_unchanged_document_is_not_embedded_again(world: World) -> None:
    async def scenario() -> None:
        await world.create()
        worker = world.start_worker()
        await world.produce([(b"d", {"text": "The same."})])
        await world.settled(worker=worker)
        assert worker.metrics()["penstock_chunks_embedded_total"] == 1
        assert await asyncio.to_thread(worker.terminate) == 0
        await world.produce([(b"d", {"text": "The same."}), (b"d", {"text": "The same."})])
        worker = world.start_worker()  # which finds both at once: they are of one batch
        await world.settled(worker=worker)
        metrics = worker.metrics()
        assert metrics["penstock_chunks_embedded_total"] == 0
        assert metrics['penstock_chunks_skipped_total{reason="unchanged"}'] == 1
        assert metrics['penstock_records_total{outcome="superseded"}'] == 1

    asyncio.run(scenario())


def test_in_a_changed_document_only_changed_chunks_are_embedded(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 18: a word in the middle of 100 chunks, a new title, a shorter and a longer text; vectors are read back."""
    world.split_at(120, 20)
    paragraphs = [f"Paragraph {i}. " + f"The gate of sluice {i} was opened at noon. " * 2 for i in range(100)]

    async def embedded_by(value: object) -> float:
        (worker,) = world.workers
        before = worker.metrics()["penstock_chunks_embedded_total"]
        await world.produce([(b"d", value)])
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        return worker.metrics()["penstock_chunks_embedded_total"] - before

    async def scenario() -> None:
        await world.create()
        await world.ready(world.start_worker())
        text = "\n\n".join(paragraphs)
        assert await embedded_by({"text": text}) >= 100
        edited = text.replace("Paragraph 50.", "Section 50.")
        assert 1 <= await embedded_by({"text": edited}) <= 3
        assert await embedded_by({"text": edited, "title": "Only the metadata changed"}) == 0
        assert await embedded_by({"text": "\n\n".join(paragraphs[:40])}) <= 1
        assert await embedded_by({"text": text}) >= 50

    asyncio.run(scenario())
