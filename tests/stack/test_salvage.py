"""Fault 37 beyond retention: where the topic has lost a record, the index is the only one that knows its document."""

import asyncio
import json
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from agents.operations.judge import ACCEPT
from tests.kit.harness import World, snapshot
from tests.stack.test_dlq import BROKEN
from tests.stack.test_epochs import grow_into_an_epoch
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


def test_content_that_nobody_has_any_more_is_named_and_there_is_an_end(world: World) -> None:
    """The chunks alone are restored: what was deleted since stays so, and what came since is lost."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"older", OLD), (b"same", OLD), (b"deleted", OLD), (b"shrunk", NEW)])
        await world.settled(worker=world.start_worker())
        old = await texts(world, "older")
        async with connect(world.settings.elasticsearch) as client:
            index = (await snapshot(world, client)).partition(",")[0]
            await world.produce([(b"older", NEW), (b"none", NEW), (b"deleted", None), (b"shrunk", SHORT)])
            await world.settled(worker=world.workers[-1])
            new = await texts(world, "older")
            assert len(new) > len(old) > 1
            assert world.command("index", "vacuum", "--before", "0s").returncode == 0  # nothing knows of it any more
            await retention(world)
            await restore(world, client, index)
            await client.update(index=index, id="same#0", doc={"metadata": {"title": "By hand."}}, refresh=True)
        found, code = verified(world, "--repair")
        notes = {"no record": 1, "changed by others": 1}
        assert (code, found["after_repair"]["kinds"]) == (1, {"content lost": 3} | notes), found
        told = {finding["where"]: finding["what"] for finding in found["findings"]}
        assert all("publish it again" in told[doc] and f"`penstock {ACCEPT}`" in told[doc] for doc in ("older", "none"))
        assert await texts(world, "deleted") == []
        assert problem(world)
        await world.produce([(b"shrunk", {"text": "It is short again."})])
        await world.settled(worker=world.workers[-1])
        assert await texts(world, "shrunk") == ["It is short again."]
        done = world.command(*ACCEPT.split())
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert (await texts(world, "older"), await texts(world, "none")) == (old, [])
        assert problem(world) is None
        found, code = verified(world)
        assert (code, found["kinds"]) == (0, {"no record": 2, "changed by others": 1}), found
        assert any("the content of an older one is kept" in finding["what"] for finding in found["findings"])
        await world.produce([(b"older", NEW), (b"none", NEW)])  # by their producer, unchanged
        await world.settled(worker=world.workers[-1])
        assert (await texts(world, "older"), await texts(world, "none")) == (new, new)
        async with connect(world.settings.elasticsearch) as client:
            await retention(world)
            await drop(world, client, "none#1")
        assert verified(world, "--repair")[1] == 1
        await world.produce([(b"none", NEW)])  # it is written, though the registry has it
        await world.settled(worker=world.workers[-1])
        assert await texts(world, "none") == new
        assert verified(world)[1] == 0

    asyncio.run(scenario())


def test_documents_of_an_index_that_is_gone_are_named_when_nobody_has_them(world: World) -> None:
    """The chunk index is deleted, then restored as another one: of what the topic has lost only the registry knows."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((name, OLD) for name in (b"same", b"changed", b"deleted", b"shrunk", b"coming"))
        await world.settled(worker=world.start_worker())
        async with connect(world.settings.elasticsearch) as client:
            index = (await snapshot(world, client)).partition(",")[0]
            await world.produce([(b"changed", NEW), (b"none", NEW), (b"deleted", None), (b"shrunk", NEW)])
            await world.settled(worker=world.workers[-1])
            await retention(world)
            await world.produce([(b"there", OLD), (b"coming", NEW)])
            await client.indices.delete(index=index)
            assert await world.workers[-1].ended() == 3
            assert world.command("index", "create").returncode == 0
            found, code = verified(world)
            assert (code, found["unsettled"], found["kinds"]) == (1, 2, {"content lost": 4}), found
            await world.settled(worker=world.start_worker())
            found, code = verified(world, "--repair")
            lost = [(finding["kind"], finding["where"]) for finding in found["findings"]]
            assert sorted(lost) == [("content lost", doc) for doc in ("changed", "none", "same", "shrunk")], found
            assert code == 1
            await client.indices.delete(index=index)
            assert await world.workers[-1].ended() == 3
            await client.snapshot.restore(
                repository=world.name, snapshot="one", indices=index, wait_for_completion=True
            )
            assert "nobody has verified it" in world.command("index", "create").stderr
            await world.settled(worker=world.start_worker())
            found, code = verified(world, "--repair")
            assert (code, found["after_repair"]["kinds"]) == (1, {"content lost": 3, "no record": 1}), found
        await world.produce([(b"changed", NEW), (b"shrunk", SHORT)])  # the first one is written, though it is known
        await world.settled(worker=world.workers[-1])
        assert await texts(world, "shrunk") == ["It is short."]
        assert verified(world, "--repair", "--accept-data-loss")[1] == 0
        assert [len(await texts(world, doc)) for doc in ("none", "deleted")] == [0, 0]
        assert await texts(world, "same") == await texts(world, "there") != []
        assert len(await texts(world, "changed")) > len(await texts(world, "same"))
        assert verified(world)[1] == 0

    asyncio.run(scenario())


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


def test_of_a_key_that_moved_the_chunks_know_the_newer_record(world: World) -> None:
    """The topic has the older one, of another partition, and the registry knows no other."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"moved", OLD), (b"emptied", OLD)], partition=0)
        await world.settled(worker=world.start_worker())
        await grow_into_an_epoch(world, 2)
        async with connect(world.settings.elasticsearch) as client:
            registry = (await snapshot(world, client)).partition(",")[2]
            await world.produce([(b"moved", NEW), (b"emptied", NEW)], partition=1)
            await world.settled(worker=world.workers[-1])
            new = await texts(world, "moved")
            await retention(world, 1)
            await drop(world, client, "emptied#2")
            assert verified(world, "--repair", "--accept-data-loss")[1] == 0
            await restore(world, client, registry)
        assert verified(world)[1] == 1
        assert verified(world, "--repair")[1] == 0
        assert (await texts(world, "moved"), await texts(world, "emptied")) == (new, [])
        await world.produce([(b"moved", {"text": "Again."}), (b"emptied", {"text": "Again."})], partition=1)
        await world.settled(worker=world.workers[-1])
        assert (await texts(world, "moved"), await texts(world, "emptied")) == (["Again."], ["Again."])
        assert await world.dead_letters() == []

    asyncio.run(scenario())


def test_content_that_a_dead_letter_has_is_not_lost(world: World) -> None:
    """A replay was killed halfway, and a chunk of another one went: both records are in their letters only."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"begun", OLD), (b"begun", POISON), (b"torn", POISON), (b"refused", POISON)])
        worker = world.start_worker(change=BROKEN)
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        await world.settled(worker=world.start_worker())
        await retention(world)
        async with connect(world.settings.elasticsearch) as client:
            registry = (await snapshot(world, client)).partition(",")[2]
            assert world.command("dlq", "replay").returncode == 0
            new = await texts(world, "begun")
            damage = Damage(client, registry.removesuffix("-registry"))
            await damage.entry("begun", state="writing", attempt=2)
            await drop(world, client, "begun#0")
            await drop(world, client, "torn#1")
            found, code = verified(world, "--repair", "--accept-data-loss")
            assert (code, found["kinds"]) == (0, {"left writing": 1, "missing chunk": 1, "no record": 1}), found
            assert [await texts(world, doc) for doc in ("begun", "torn", "refused")] == [new] * 3
            assert world.command("dlq", "purge", "--yes").returncode == 0
            await restore(world, client, registry)  # from before the replay
        assert verified(world, "--repair")[1] == 0
        assert [await texts(world, doc) for doc in ("begun", "torn", "refused")] == [new] * 3

    asyncio.run(scenario())


def test_what_nobody_can_tell_is_left_alone(world: World) -> None:
    """Nothing was set back, as far as is known: a document without an entry is not deleted unasked."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"unknown", OLD), (b"edited", NEW), (b"deleted", OLD), (b"refused", OLD)])
        await world.settled(worker=world.start_worker())
        old = await texts(world, "unknown")
        async with connect(world.settings.elasticsearch) as client:
            index, _, registry = (await snapshot(world, client)).partition(",")
            await client.delete(index=registry, id="unknown", refresh=True)
            for title in "abcd":  # each is a version more
                for key in ("edited#0", "deleted#0"):
                    await client.update(index=index, id=key, doc={"metadata": {"title": title}}, refresh=True)
            await world.produce([(b"edited", {"text": "It changed."}), (b"deleted", None)])
            await world.settled(worker=world.workers[-1])
            await retention(world)
            found, code = verified(world, "--repair")
            assert (code, found["after_repair"]["kinds"].keys() - {"no record", "changed by others"}) == (
                1,
                {"unknown document", "content lost"},
            ), found["after_repair"]
            assert (await texts(world, "unknown"), await texts(world, "deleted")) == (old, [])
            assert verified(world, "--repair", "--accept-data-loss")[1] == 0
            assert await texts(world, "unknown") == []
            assert verified(world)[1] == 0
            await restore(world, client, registry)
            refused = world.command("index", "vacuum", "--before", "0s")
            assert (refused.returncode, "`penstock index verify --repair`" in refused.stderr) == (3, True)

    asyncio.run(scenario())
