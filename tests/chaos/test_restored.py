"""Fault 37: what is told of an index that lost its chunks or registry, and what has to wait until it is verified."""

import asyncio
import json
from dataclasses import replace

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.elastic.index import Index
from models.onnx.embedder import OnnxEmbedder
from streams.contract import registry_mappings
from tests.kit.harness import PATIENCE_S, World, again_and_again, snapshot
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text
from tests.stack.test_salvage import OLD, retention, texts
from tests.stack.test_verify import verified

MODEL_SPEED = "fast"


async def lose_registry(world: World, client: AsyncElasticsearch, index: str) -> None:
    """It is deleted; the worker that was started last notices, and ends."""
    await world.ready(world.workers[-1])  # with nothing to do, it may be settled before it has started
    await client.indices.delete(index=f"{index}-registry")
    assert await world.workers[-1].ended() == 3


def test_nothing_is_taken_from_an_index_that_nobody_verified(world: World) -> None:
    """Neither by a rebuild nor by readers: its registry knows less than its chunks."""

    def refused(*words: str) -> None:
        done = world.command(*words)
        assert (done.returncode, "index verify --repair" in done.stderr + done.stdout) == (3, True), done

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"one", OLD)])
        await world.settled(worker=world.start_worker())
        await retention(world)
        first = f"{world.name}-all-minilm-l6-v2-000001"
        async with connect(world.settings.elasticsearch) as client:
            await lose_registry(world, client, first)
            assert world.command("index", "create").returncode == 0
            await world.settled(worker=world.start_worker())
            refused("index", "rebuild")
            refused("dlq", "replay")
            refused("dlq", "purge", "--yes")
            assert verified(world, "--repair")[1] == 0
            await world.produce([(b"two", OLD)])
            await world.settled(worker=world.workers[-1])
            gate, output = world.gate(), world.tmp / "rebuild"
            process = world.start("index", "rebuild", output=output, errors=output, extra=gate.environment)
            await gate.holds(process)
            await lose_registry(world, client, first)  # when it was looked at already
            assert world.command("index", "create").returncode == 0
            gate.open()
            code = await asyncio.to_thread(process.wait, PATIENCE_S)
            assert (code, "index verify --repair" in output.read_text()) == (3, True), output.read_text()
            await world.settled(worker=world.start_worker())
            assert verified(world, "--repair")[1] == 0
            made = json.loads(world.command("index", "rebuild", "--json").stdout)
            own = {"PENSTOCK_SOURCE__GROUP": made["group"]}
            await world.settled_as(own, world.start_worker(own))
            await lose_registry(world, client, made["index"])
            assert world.command("index", "create", extra=own).returncode == 0
            await world.settled_as(own, world.start_worker(own))
            refused("index", "promote")
            assert world.command("index", "verify", "--repair", extra=own).returncode == 0
            await client.indices.delete(index=f"{first}-registry")
            assert world.command("index", "create").returncode == 0
            refused("index", "promote")  # nothing is missing in comparison with an empty registry
            assert world.command("index", "promote", "--unchecked").returncode == 0
            assert world.workers[-1].terminate() == 0
            await client.indices.delete(index=f"{first}-registry")
            await client.indices.create(index=f"{first}-registry", mappings=registry_mappings())  # by hand
            assert world.command("index", "create").returncode == 0
            refused("index", "rollback")
        assert await texts(world, "one")
        assert await texts(world, "two")

    asyncio.run(scenario())


def test_chunks_that_went_alone_are_told_until_they_are_back(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 37: an empty primary, or the chunk index restored by itself: its registry has everything as written."""

    def problem() -> str | None:
        told: str | None = json.loads(world.command("status", "--json").stdout)["problem"]
        return told

    async def scenario() -> None:
        await world.create(partitions=2)
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            await world.produce((f"doc-{i}".encode(), {"text": text(i, 60)}) for i in range(250))
            worker = world.start_worker()
            await world.settled(worker=worker)
            index = both.partition(",")[0]
            await client.indices.close(index=index)
            await client.snapshot.restore(
                repository=world.name, snapshot="one", indices=index, wait_for_completion=True
            )
        assert await worker.ended() == 3
        assert "`penstock index verify --repair`" in worker.log.read_text()
        for _ in range(2):
            worker = world.start_worker()
            await worker.said("nobody has verified it since")
            await world.ready(worker)
            await world.settled(worker=worker)
            worker.terminate()
        assert "`penstock index verify --repair`, once the workers have caught up" in (problem() or "")
        assert world.command("index", "verify").returncode == 1
        async with connect(world.settings.elasticsearch) as client:
            found = Index(client, world.settings)
            identity = await found.identity(await found.generation())
            await found.verified(replace(identity, shards=("of a verification", "that ran while they changed")), {})
        assert problem()
        assert not any(key.startswith("doc-0#") for key in await world.chunks())
        worker = world.start_worker()
        await world.produce([(b"doc-0", {"text": text(0, 60)})])  # the same again
        await world.settled(worker=worker)
        assert any(key.startswith("doc-0#") for key in await world.chunks())

        async def produce(turn: int) -> None:
            await world.produce((f"more-{i}".encode(), {"text": text(i)}) for i in range(20 * turn, 20 * turn + 20))

        async with again_and_again(produce, 0.2):  # a topic is never at rest
            done = await asyncio.to_thread(world.command, "index", "verify", "--repair")
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert problem() is None
        await world.settled(worker=worker)
        assert await asyncio.to_thread(worker.terminate) == 0
        worker = world.start_worker()
        await world.ready(worker)
        assert "nobody has verified it since" not in worker.log.read_text()
        await assert_true(world, embedder)

    asyncio.run(scenario())
