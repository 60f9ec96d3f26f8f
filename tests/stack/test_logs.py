"""Faults 42, 43, 46 and 48: another log under the same name, letters of another index, partitions, two groups."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from agents.clock import moment
from agents.configured import contract_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.kafka.reader import log_reader
from agents.operations.promote import swap
from models.onnx.embedder import OnnxEmbedder
from streams.contract import Described
from streams.epochs import Cut, Epochs
from streams.errors import PenstockError, RefusedError
from streams.plan import chunk_hash
from tests.kit.harness import Servers, Worker, World
from tests.kit.oracle import assert_true
from tests.stack.test_dlq import BROKEN, listed
from tests.stack.test_epochs import assert_epochs, bump, exits_with_3, grow
from tests.stack.test_faults import text
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"
BUMP = "penstock index epoch bump --why"


def documents(numbers: Iterable[int], salt: int = 0) -> list[tuple[bytes, Any]]:
    """Records of these documents; another salt is another text."""
    return [(f"doc-{i}".encode(), {"text": text(salt + i, 2)}) for i in numbers]


async def new_log(world: World, partitions: int, *, claims_too: bool = True) -> None:
    """The topic, and with it the claims, deleted and made anew; Elasticsearch stays."""
    await world.delete_topic(world.name)
    if claims_too:
        await world.delete_topic(world.settings.changelog_topic)
    async with log_reader(world.settings) as reader:
        await reader.create_topic(world.name, partitions, {})


def test_another_log_without_claims_is_refused_until_its_epoch_begins(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 42: lower offsets would lose against the registry in silence, with lag 0 and a green verification."""
    is_refused_until_its_epoch_begins(world, embedder)


def is_refused_until_its_epoch_begins(world: World, embedder: OnnxEmbedder, other: Servers | None = None) -> None:
    """The topic is made anew; or there is another one of its name, on another broker."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(60)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        old, world.produced = world.produced, []
        if other is None:
            await new_log(world, 2)
        else:
            world.move_to_broker(other)
            async with log_reader(world.settings) as reader:
                await reader.create_topic(world.name, 2, {})
        await world.produce(documents(range(10), salt=900) + [(f"doc-{i}".encode(), None) for i in range(50, 55)])
        await exits_with_3(world.start_worker(), "is not the log that was indexed")
        for arguments in (
            ("index", "verify", "--repair"),
            ("dlq", "replay"),
            ("index", "rebuild"),
        ):
            done = world.command(*arguments)
            assert (done.returncode, BUMP in done.stderr) == (3, True), (arguments, done.stdout, done.stderr)
        found, code = verified(world)
        assert (code, found["kinds"].get("entry ahead", 0) > 20) == (1, True), found["kinds"]
        assert BUMP in json.loads(world.command("status", "--json").stdout)["problem"]
        await world.follow("The cluster was lost or replaced")
        named = {record.key for record in world.produced}
        forgotten = {(record.key or b"").decode() for record in old if record.key not in named}
        found, code = verified(world)
        assert (code, found["kinds"]) == (0, {"no record": len(forgotten)}), found
        await assert_true(world, embedder, ignore=forgotten, epochs=Epochs((Cut(at="", why="", offsets={}),)))

    asyncio.run(scenario())


def test_an_index_that_knows_no_log_adopts_the_one_that_it_holds(world: World) -> None:
    """Made by a version before: what the registry and the claims say decides."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(documents(range(20)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        mine = (await contract(world))["source"].pop("log")
        assert mine.count("/") == 1
        await forget_log(world)
        await world.produce(documents([3], salt=50))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        assert (await contract(world))["source"]["log"] == mine
        await forget_log(world)
        await new_log(world, 1)
        await world.produce(documents(range(5), salt=900))
        await exits_with_3(world.start_worker(), "is not the log that was indexed", "ends at 5")

    asyncio.run(scenario())


async def contract(world: World) -> Any:
    """Of the index that serves, with what was noted down since it was made."""
    async with connect(world.settings.elasticsearch) as client:
        return (await Index(client, world.settings).generation()).contract


async def forget_log(world: World) -> None:
    """As in an index from before."""
    async with connect(world.settings.elasticsearch) as client:
        index, meta = await _meta(world, client)
        meta["penstock"]["source"].pop("log", None)
        await client.indices.put_mapping(index=index, meta=meta)
        registry = (await client.indices.get_mapping(index=f"{index}-registry"))[f"{index}-registry"]["mappings"]
        notes = {name: value for name, value in registry.get("_meta", {}).items() if name != "penstock_log"}
        await client.indices.put_mapping(index=f"{index}-registry", meta=notes)


async def _meta(world: World, client: AsyncElasticsearch) -> tuple[str, Any]:
    (index,) = await client.indices.get_alias(name=world.name)
    return index, (await client.indices.get_mapping(index=index))[index]["mappings"]["_meta"]


def test_letters_of_an_index_that_was_made_anew_never_beat_newer_records(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 43: a letter of epoch 1, and an index whose epochs begin at 0 again."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(documents(range(5)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        assert bump(world).returncode == 0
        await world.produce([(b"doc-0", {"text": "poison, and old"}), (b"doc-1", {"text": "poison, the newest"})])
        await world.settled(worker=(worker := world.start_worker(change=BROKEN)))
        assert worker.terminate() == 0
        await world.produce([(b"doc-0", {"text": "The newest text."})])
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await client.indices.delete(index=f"{index},{index}-registry")
        await world.delete_topic(world.settings.changelog_topic)  # which would remember the cut
        assert world.command("index", "create").returncode == 0
        await world.settled(worker=(worker := world.start_worker(change=BROKEN)))
        assert worker.terminate() == 0
        found = listed(world)
        assert (found["records"], found["open"]) == (2, 1), found
        done = world.command("dlq", "replay", "--json")
        assert (done.returncode, json.loads(done.stdout)["outcomes"]) == (0, {"stored": 1}), done.stderr
        await world.produce([(b"doc-1", {"text": "Newer still."})])
        await world.settled(worker=world.start_worker())
        everything = {(record.partition, record.offset) for record in world.produced}
        await assert_true(world, embedder, also_dead=everything)
        # and those of another log are no business of this one: they are named, and can be purged
        for worker in world.workers:
            worker.kill()
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await client.indices.delete(index=f"{index},{index}-registry")
        await new_log(world, 1)
        world.produced = []
        await world.produce(documents(range(3), salt=900))
        assert world.command("index", "create").returncode == 0
        await world.settled(worker=world.start_worker())
        found = listed(world)
        assert (found["open"], {row["standing"] for row in found["letters"]}) == (0, {"foreign"}), found
        assert world.command("dlq", "replay").stdout == "no open dead letters that match\n"
        assert world.command("dlq", "purge", "--yes").returncode == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_made_anew_with_fewer_partitions(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 46: the changelog topic has too many then, and cannot shrink."""

    async def scenario() -> None:
        await world.create(partitions=4)
        await world.produce(documents(range(40)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await new_log(world, 2, claims_too=False)
        old, world.produced = world.produced, []
        await world.produce(documents(range(40), salt=900))
        await exits_with_3(world.start_worker(), "has 2")
        await world.follow("The topic was deleted and made anew")
        assert len(old) == len(world.produced)
        await assert_true(world, embedder, epochs=Epochs((Cut(at="", why="", offsets={}),)))

    asyncio.run(scenario())


def test_partitions_grow_by_no_multiple_while_there_is_lag(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 46: keys move between old partitions, too; the moment tells which records are newer."""
    began_ms = int(time.time()) * 1000 - 3_600_000

    def at(number: int) -> str:
        return moment(began_ms + number)

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(40)), timestamp_ms=began_ms)
        await world.produce(documents(range(20, 30), salt=100), timestamp_ms=began_ms + 100)
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await world.produce(documents(range(10, 20), salt=200), timestamp_ms=began_ms + 200)
        await grow(world, 3)
        await world.produce(documents(range(10), salt=300), timestamp_ms=began_ms + 300)
        await exits_with_3(world.start_worker(), "has 3")
        refused = bump(world)
        assert (refused.returncode, f"--at {at(300)}" in refused.stderr) == (3, True), refused.stderr
        await world.follow("Partitions were added to the source topic", {"2026-03-01T12:00:00.250Z": at(300)}, block=1)
        await assert_epochs(world, embedder)
        # a moment after that: what was settled beyond it is processed again, as newer; one before it would take it back
        await world.produce(documents(range(5), salt=400), timestamp_ms=began_ms + 400)
        await world.settled(worker=world.workers[-1])
        assert world.workers[-1].terminate() == 0
        done = world.command("index", "epoch", "bump", "--why", "a test", "--at", at(100))
        assert (done.returncode, "is before the present epoch" in done.stderr) == (2, True), done.stderr
        done = world.command("index", "epoch", "bump", "--why", "a test", "--at", at(400))
        assert done.stdout.startswith("epoch 2 begins: by hand: "), done.stderr
        assert await world.lag() == 5
        await world.settled(worker=world.start_worker())
        await assert_epochs(world, embedder)
        found, code = verified(world)
        assert code == 0, found

    asyncio.run(scenario())


AT_ONCE = """
from agents.worker.assignment import Assignment

admit, held, came = Assignment.admit, [], set()

async def at_once(self, delivered):
    held.extend(delivered)
    came.update((record.partition, record.offset) for record, _, _ in held)
    if len(came) < COUNT:
        return []
    rows = sorted(held, key=lambda row: (row[0].partition, row[0].offset))
    held.clear()
    return await admit(self, rows)

Assignment.admit = at_once
"""
"""All records come in one window, a partition after the other: two of a key that moved are in one batch."""


def worker_of_one_window(world: World, count: int) -> Worker:
    """It takes so many records at once, however many of them are rejected."""
    return world.start_worker({"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "1"}, AT_ONCE.replace("COUNT", str(count)))


def test_an_index_made_anew_says_what_the_topic_does_not_have(world: World) -> None:
    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(documents(range(3)))
        rebuilt = json.loads(world.command("index", "rebuild", "--json").stdout)
        async with connect(world.settings.elasticsearch) as client, log_reader(world.settings) as reader:
            first = f"{world.name}-all-minilm-l6-v2-000001"
            await client.indices.delete(index=f"{first},{first}-registry")
            await reader.delete_before(world.name, {0: 2})
        made = world.command("index", "create")
        assert f"{world.name} lacks its first 2 records" in made.stderr, made.stderr
        assert f"`penstock index promote {rebuilt['index']}`, then" in made.stderr, made.stderr

    asyncio.run(scenario())


def test_what_is_promoted_has_read_every_partition(world: World) -> None:
    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(20)))
        await world.settled(worker=(worker := world.start_worker()))
        rebuilt = json.loads(world.command("index", "rebuild", "--json").stdout)
        assert worker.terminate() == 0
        await grow(world, 4)
        for name in (None, rebuilt["index"]):
            refused = world.command("index", "promote", *([name] if name else []))
            assert (refused.returncode, BUMP in refused.stderr) == (3, True), refused.stderr
        (first, second) = json.loads(world.command("index", "list", "--json").stdout)
        assert (first["lag"], second["lag"]) == (None, None)
        assert BUMP in first["problem"]

    asyncio.run(scenario())


def test_what_is_on_two_partitions_is_mended_from_its_own(world: World, embedder: OnnxEmbedder) -> None:
    """Two records of a batch were refused by one letter: what is served is damaged, and mended from its own record."""

    async def scenario() -> None:
        world.split_at(120, 20)
        await world.create(partitions=2)
        worker = world.start_worker()
        keys = [b"beyond", b"missing", b"other"]
        await world.produce([(key, {"text": text(number, 6)}) for number, key in enumerate(keys)], partition=0)
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        worker = worker_of_one_window(world, 6)
        await world.produce(
            [(key, {"text": text(salt + number)}) for salt in (100, 200) for number, key in enumerate(keys)],
            partition=1,
        )
        await world.settled(worker=worker)
        letters = len(await world.dead_letters())
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            rows = await world.chunks()
            vectors = await client.get(index=index, id="other#0", source_includes="*,vector")
            damage = Damage(client, index)
            metadata = {**vectors["_source"]["metadata"], "doc_id": "beyond", "chunk": 9}
            await damage.put("beyond#9", {**vectors["_source"], "metadata": metadata}, 1)
            gone = rows["missing#0"]["_version"]
            await client.delete(index=index, id="missing#0", version=gone, version_type="external_gte")
            wrong = {**vectors["_source"], "text": "Somebody else's.", "penstock": dict(vectors["_source"]["penstock"])}
            wrong["penstock"]["chunk_hash"] = chunk_hash("Somebody else's.")
            await damage.put("other#0", wrong, vectors["_version"])
        found, code = verified(world)
        kinds = {"key on two partitions": 3, "orphan chunk": 1, "missing chunk": 1, "wrong text": 1, "wrong vector": 1}
        assert (code, found["kinds"]) == (1, kinds)
        found, code = verified(world, "--repair")
        assert code == 0, found
        assert len(await world.dead_letters()) == letters
        alive = {key for key, row in rows.items() if not row["penstock"]["stub"]}
        assert {key for key, row in (await world.chunks()).items() if not row["penstock"]["stub"]} == alive

    asyncio.run(scenario())


def test_an_index_that_is_deleted_while_it_is_looked_at_is_gone(world: World) -> None:
    """With its registry, in one request; the word is not that its registry is missing, and to delete it."""

    async def scenario() -> None:
        await world.create(partitions=1)
        async with connect(world.settings.elasticsearch) as client:
            index = Index(client, world.settings)
            generation = await index.generation()
            name = generation.index
            await client.indices.delete(index=f"{name},{name}-registry")
            with pytest.raises(RefusedError, match=f"^{name} is gone: .*`penstock index create`"):
                await index.identity(generation)

    asyncio.run(scenario())


def test_the_readers_alias_keeps_its_filter(world: World) -> None:
    """Whoever may see a part of the documents sees no more of the next generation, and after the way back."""

    async def scenario() -> None:
        await world.create(partitions=1)
        made = world.contract(Described(partitions=1, log="c/t"))
        hidden: Any = {"filter": {"term": {"metadata.source": "public"}}, "index_routing": "1", "search_routing": "1"}
        async with connect(world.settings.elasticsearch) as client:
            index = Index(client, world.settings)
            old = await index.generation()
            await client.indices.put_alias(index=old.index, name=world.name, **hidden)
            source = {**old.contract["source"]}
            contract = {**made, "source": source, "model": {**made["model"], "name": "x"}}
            new = await index.make(contract, await index.generations())
            for before, after in ((old, new), (new, old)):
                await swap(client, world.settings, after, world.name, before)
                found = await client.indices.get_alias(name=world.name)
                assert found.body == {after.index: {"aliases": {world.name: hidden}}}

    asyncio.run(scenario())


def test_a_cut_is_never_lost_to_a_note(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker binds, or load mode ends, while an epoch begins: of `_meta` the last writer has it all."""

    async def scenario() -> None:
        await world.create(partitions=1)
        async with connect(world.settings.elasticsearch) as client:
            index = Index(client, world.settings)
            generation = await index.generation()
            put, cut = client.indices.put_mapping, {"at": "", "why": "", "offsets": {"0": 7}}

            async def late(**options: Any) -> Any:
                monkeypatch.setattr(client.indices, "put_mapping", put)
                await index.set_epochs(generation, [cut], {"partitions": 1})
                return await put(**options)

            monkeypatch.setattr(client.indices, "put_mapping", late)
            await index.note(generation.index, penstock_group="g", penstock_before="x")
            await index.note(generation.index, penstock_before=None)
            found = await index.generation()
            assert (found.contract["cuts"], found.group, found.before) == ([cut], "g", None)
            with pytest.raises(PenstockError, match="somebody else began an epoch"):
                await index.set_epochs(generation, [], {})

    asyncio.run(scenario())


def test_an_alias_that_begins_like_another_one_has_its_own_indices(world: World, embedder: OnnxEmbedder) -> None:
    """`docs` with a model `en-x`, and `docs-en` with `x`: one name for two indices."""
    settings = world.settings.model_copy(
        update={"elasticsearch": world.settings.elasticsearch.model_copy(update={"alias": f"{world.name}-en"})}
    )
    made = contract_of(world.settings, [embedder.manifest], Described(partitions=1, log="c/t"))

    async def scenario() -> None:
        async with connect(world.settings.elasticsearch) as client:
            first, second = Index(client, world.settings), Index(client, settings)
            one, _ = await first.create({**made, "model": {**made["model"], "name": "en-x"}})
            two, new = await second.create({**made, "model": {**made["model"], "name": "x"}})
            assert (one.index, two.index, new) == (f"{world.name}-en-x-000001", f"{world.name}-en-x-000002", True)
            assert [row.index for row in await first.generations()] == [one.index]
            assert [row.index for row in await second.generations()] == [two.index]

    asyncio.run(scenario())


def test_two_groups_share_a_dead_letter_topic(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 48: each sees, replays and purges its own letters alone."""
    other: Mapping[str, str] = {"PENSTOCK_SOURCE__GROUP": f"{world.name}-b", "PENSTOCK_SPLIT__MAX_CHARS": "500"}

    def told(*arguments: str) -> Any:
        done = world.command(*arguments, "--json", extra=other)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([*documents(range(10)), (b"doc-3", {"text": "poison of B only"}), (b"both", b"{")])
        await world.settled(worker=world.start_worker())
        made = world.command("index", "create", extra=other)
        assert made.returncode == 0, made.stderr
        second = world.start_worker(other, change=BROKEN)
        await world.settled_as(other, second)
        assert second.terminate() == 0
        assert listed(world)["records"] == 1
        assert told("dlq", "list")["records"] == 2
        await world.produce([(b"both", {"text": "The producer was mended."})])
        await world.settled()
        purged = world.command("dlq", "purge", "--yes")
        assert purged.returncode == 0, purged.stderr
        assert "deleted 1 letter from" in purged.stdout  # the first, its own; then one of B's that is open
        assert told("dlq", "list")["open"] == 2
        assert json.loads(world.command("status", "--json").stdout)["dead_letters"]["records"] == 0
        assert told("dlq", "replay")["outcomes"] == {"stored": 1, "dead_lettered": 1}
        third = world.start_worker(other)
        await world.settled_as(other, third)
        assert told("index", "verify")["clean"]
        assert third.terminate() == 0
        purged = world.command("dlq", "purge", "--yes", extra=other)
        assert purged.returncode == 0, purged.stderr
        assert not await world.dead_letters()
        await assert_true(world, embedder, no_longer_dead={(0, 11)})

    asyncio.run(scenario())
