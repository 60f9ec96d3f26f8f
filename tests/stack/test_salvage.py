"""Fault 37 beyond retention: where the topic has lost a record, the index is the only one that knows its document."""

import asyncio
import json
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from tests.kit.harness import World, snapshot
from tests.stack.test_faults import text
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"

OLD = {"text": text(1, 40)}
NEW = {"text": text(2, 90)}
SHORT = {"text": "It is short."}
POISON = {"text": "poison " + text(3, 90)}


async def retention(world: World, *partitions: int) -> None:
    """All records of these partitions go; of the first, if none is named."""
    async with log_reader(world.settings) as reader:
        bounds = await reader.bounds(world.name, partitions or [0])
        await reader.delete_before(world.name, {number: bound.end for number, bound in bounds.items()})


async def set_back(world: World, client: AsyncElasticsearch, name: str) -> None:
    """In place, from the snapshot; a worker notices, and ends."""
    await client.indices.close(index=name)
    await client.snapshot.restore(repository=world.name, snapshot="one", indices=name, wait_for_completion=True)
    assert await world.workers[-1].ended() == 3


async def restore(world: World, client: AsyncElasticsearch, name: str) -> None:
    """The same, and the next worker settles what the topic has."""
    await set_back(world, client, name)
    await world.settled(worker=world.start_worker())


async def drop(world: World, client: AsyncElasticsearch, key: str) -> None:
    """One chunk goes."""
    (index,) = await client.indices.get_alias(name=world.name)
    row = await client.get(index=index, id=key)
    await client.delete(index=index, id=key, version=row["_version"], version_type="external_gte", refresh=True)


async def texts(world: World, doc: str) -> list[str]:
    """Of its chunks, in their order."""
    rows = [row for row in (await world.chunks()).values() if row["metadata"].get("doc_id") == doc]
    return [row["text"] for row in sorted(rows, key=lambda row: row["metadata"]["chunk"]) if "text" in row]


def problem(world: World) -> Any:
    """What `penstock status` says is wrong."""
    return json.loads(world.command("status", "--json").stdout)["problem"]


def test_what_only_the_chunks_know_is_not_lost(world: World) -> None:
    """The registry is older than the chunks, one was left half written, vectors are wrong: the records are gone."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((name, OLD) for name in (b"changed", b"same", b"other", b"deleted"))
        await world.produce([(b"shrunk", SHORT)])
        await world.settled(worker=world.start_worker())
        async with connect(world.settings.elasticsearch) as client:
            registry = (await snapshot(world, client)).partition(",")[2]
            await world.produce(
                [(b"changed", NEW), (b"new", NEW), (b"torn", NEW), (b"shrunk", NEW), (b"deleted", None)]
            )
            await world.settled(worker=world.workers[-1])
            new = await texts(world, "changed")
            await retention(world)
            await restore(world, client, registry)
            await world.produce([(b"shrunk", {"text": "It is short again."})])
            await world.settled(worker=world.workers[-1])
            assert "`penstock index verify --repair`" in problem(world)
            damage = Damage(client, registry.removesuffix("-registry"))
            await damage.entry("same", state="writing")
            row = await client.get(index=damage.index, id="same#0", source_includes="*,vector")
            await damage.chunk("same#0", vector=row["_source"]["vector"][::-1])
            await damage.chunk("other#1", penstock__model="another")
            await drop(world, client, "torn#1")
        found, code = verified(world, "--repair")
        kinds = {"wrong vector", "wrong model", "left writing", "version ahead", "missing entry", "content lost"}
        assert kinds <= found["kinds"].keys(), found["kinds"]
        assert (code, found["after_repair"]["kinds"]) == (1, {"no record": 4, "content lost": 1}), found["after_repair"]
        assert [await texts(world, doc) for doc in ("changed", "new", "deleted")] == [new, new, []]
        assert await texts(world, "shrunk") == ["It is short again."]  # of its older chunks the registry knew nothing
        assert len(await texts(world, "torn")) == len(new) - 1
        assert verified(world, "--repair", "--accept-data-loss")[1] == 0
        assert (await texts(world, "torn"), problem(world)) == ([], None)
        await world.produce([(b"last", NEW)])
        await world.settled(worker=world.workers[-1])
        async with connect(world.settings.elasticsearch) as client:
            await set_back(world, client, registry)
        impatient = "import agents.operations.verify as v; v.CATCH_UP_S = 1"
        world.command("index", "verify", "--repair", change=impatient)
        assert await texts(world, "last") == new  # its record is there, and waits for a worker
        await world.settled(worker=world.start_worker())
        assert verified(world, "--repair")[1] == 0
        assert [await texts(world, doc) for doc in ("changed", "new", "last")] == [new] * 3
        await retention(world)
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=registry)
        assert await world.workers[-1].ended() == 3
        await world.follow("The registry was deleted")
        assert [await texts(world, doc) for doc in ("changed", "new", "last")] == [new] * 3
        assert (problem(world), len(await world.registry()), await world.dead_letters()) == (None, 8, [])

    asyncio.run(scenario())
