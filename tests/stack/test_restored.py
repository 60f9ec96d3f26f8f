"""Fault 37: what is remembered beside an index that was restored, and what must not be done with one before it is
verified."""

import asyncio
import json

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from streams.contract import registry_mappings
from tests.kit.harness import PATIENCE_S, World
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
