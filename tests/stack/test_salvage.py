"""Fault 37 beyond retention: where the topic has lost a record, the index is the only one that knows its document."""

import asyncio
import json
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from agents.operations.judge import ACCEPT
from tests.kit.harness import World, snapshot
from tests.stack.test_faults import text
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"

OLD = {"text": text(1, 40)}
NEW = {"text": text(2, 90)}


async def retention(world: World) -> None:
    """All records go."""
    async with log_reader(world.settings) as reader:
        bounds = await reader.bounds(world.name, [0])
        await reader.delete_before(world.name, {0: bounds[0].end})


async def restore(world: World, client: AsyncElasticsearch, name: str) -> None:
    """In place, from the snapshot; a worker notices, and the next one settles what the topic has."""
    worker = world.workers[-1]
    await client.indices.close(index=name)
    await client.snapshot.restore(repository=world.name, snapshot="one", indices=name, wait_for_completion=True)
    assert await worker.ended() == 3
    await world.settled(worker=world.start_worker())


async def texts(world: World, doc: str) -> list[str]:
    """Of its chunks, in their order."""
    rows = [row for row in (await world.chunks()).values() if row["metadata"]["doc_id"] == doc]
    return [row["text"] for row in sorted(rows, key=lambda row: row["metadata"]["chunk"]) if "text" in row]


def problem(world: World) -> Any:
    """What `penstock status` says is wrong."""
    return json.loads(world.command("status", "--json").stdout)["problem"]


def test_content_that_nobody_has_any_more_is_named_and_there_is_an_end(world: World) -> None:
    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"older", OLD), (b"same", OLD)])
        await world.settled(worker=world.start_worker())
        old = await texts(world, "older")
        async with connect(world.settings.elasticsearch) as client:
            index = (await snapshot(world, client)).partition(",")[0]
            await world.produce([(b"older", NEW), (b"none", NEW)])
            await world.settled(worker=world.workers[-1])
            new = await texts(world, "older")
            assert len(new) > len(old) > 1
            await retention(world)
            await restore(world, client, index)
        found, code = verified(world, "--repair")
        assert (code, found["after_repair"]["kinds"]) == (1, {"content lost": 2, "no record": 1}), found
        told = {finding["where"]: finding["what"] for finding in found["findings"]}
        assert all("publish it again" in told[doc] and f"`penstock {ACCEPT}`" in told[doc] for doc in ("older", "none"))
        assert problem(world)
        done = world.command(*ACCEPT.split())
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert (await texts(world, "older"), await texts(world, "none")) == (old, [])
        assert problem(world) is None
        found, code = verified(world)
        assert (code, found["kinds"]) == (0, {"no record": 2}), found
        assert any("the content of an older one is kept" in finding["what"] for finding in found["findings"])
        await world.produce([(b"older", NEW), (b"none", NEW)])  # by their producer, unchanged
        await world.settled(worker=world.workers[-1])
        assert (await texts(world, "older"), await texts(world, "none")) == (new, new)
        assert verified(world)[1] == 0

    asyncio.run(scenario())


def test_what_only_the_chunks_know_is_not_lost(world: World) -> None:
    """The registry is older than the chunks, one was left half written, vectors are wrong: the records are gone."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((name, OLD) for name in (b"changed", b"same", b"other", b"deleted"))
        await world.produce([(b"shrunk", {"text": "It is short."})])
        await world.settled(worker=world.start_worker())
        async with connect(world.settings.elasticsearch) as client:
            registry = (await snapshot(world, client)).partition(",")[2]
            await world.produce([(b"changed", NEW), (b"new", NEW), (b"shrunk", NEW), (b"deleted", None)])
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
            await client.indices.refresh(index=damage.index)
        found, code = verified(world, "--repair")
        kinds = {"wrong vector", "wrong model", "left writing", "version ahead", "missing entry"}
        assert kinds <= found["kinds"].keys(), found["kinds"]
        assert (code, found["after_repair"]["kinds"]) == (0, {"no record": 4}), found["after_repair"]
        assert [await texts(world, doc) for doc in ("changed", "new", "deleted")] == [new, new, []]
        assert await texts(world, "shrunk") == ["It is short again."]  # of its older chunks the registry knew nothing
        assert problem(world) is None
        assert verified(world)[1] == 0

    asyncio.run(scenario())
