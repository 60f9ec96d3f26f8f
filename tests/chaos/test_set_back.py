"""Chunks, registry and claims set back or lost, beside a log that forgets: what of it others still know.

The quick suite has a case (`tests/stack/test_salvage.py`).
"""

import asyncio
import json
from typing import Any

import pytest

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from agents.operations.judge import ACCEPT
from tests.chaos.test_restored import lose_registry
from tests.kit.harness import COMPACTED, World, again_and_again, read_topic, snapshot, until
from tests.stack.test_dlq import BROKEN
from tests.stack.test_epochs import bump, grow, grow_into_an_epoch
from tests.stack.test_logs import documents, new_log
from tests.stack.test_salvage import NEW, OLD, POISON, SHORT, drop, problem, restore, retention, set_back, texts
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"


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


def test_epochs_that_only_claims_remember(world: World) -> None:
    """Both sides are restored from before one began: without it, a key that moved would be on two partitions."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce([(b"moved", OLD), (b"still", OLD)], partition=0)
        await world.settled(worker=world.start_worker())
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            assert world.workers[-1].terminate() == 0
            bump(world)
            await world.produce([(b"moved", NEW)], partition=1)
            await world.settled(worker=world.start_worker())
            new = await texts(world, "moved")
            assert world.workers[-1].terminate() == 0
            await grow(world, 4)
            bump(world)
            await world.produce([(b"still", NEW)], partition=3)
            await world.settled(worker=world.start_worker())
            await set_back(world, client, both)
        worker = world.start_worker()
        assert await worker.ended() == 3
        assert "`penstock index create` gives it back" in worker.log.read_text()
        refused = world.command("index", "epoch", "bump", "--why", "a test")
        assert (refused.returncode, "`penstock index create`" in refused.stderr) == (3, True), refused.stderr
        made = world.command("index", "create")
        assert (made.returncode, "2 cuts" in made.stderr) == (0, True), made.stderr
        await world.settled(worker=world.start_worker())
        assert [await texts(world, doc) for doc in ("moved", "still")] == [new, new]
        assert verified(world, "--repair")[1] == 0
        assert await world.dead_letters() == []

    asyncio.run(scenario())


def test_what_the_registry_alone_knew_is_made_again(world: World) -> None:
    """It is deleted in load mode, then once more: the end of load mode, and deletions, of which stubs are left."""

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 1, {})
        assert world.command("index", "create", "--load").returncode == 0
        await world.produce([(b"deleted", OLD), (b"other", OLD)])
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await client.indices.delete(index=f"{index}-registry")
            assert world.command("index", "create").returncode == 0
            worker = world.start_worker(change=BROKEN)
            await worker.said("load mode ended")
            shown = await client.indices.get_settings(index=index, name="index.refresh_interval")
            assert shown[index]["settings"]["index"]["refresh_interval"] != "-1"
            for value in (POISON, None):
                await world.settled(worker=worker)
                await world.produce([(b"deleted", value)])
            await world.settled(worker=worker)
            row: dict[str, Any] = {"text": "Another's.", "vector": [0.1] * 384, "metadata": {"source": "notes.txt"}}
            await client.index(index=world.name, id="strange", document=row, refresh=True)
            await retention(world)
            await lose_registry(world, client, index)
        await world.follow("The registry was deleted")
        found, code = verified(world)
        assert (code, found["kinds"]) == (0, {"no record": 1, "changed by others": 1}), found
        assert world.command("search", "another's", "-k", "9").returncode == 0
        listed = json.loads(world.command("dlq", "list", "--json").stdout)
        assert (listed["records"], listed["open"]) == (1, 0), listed  # the deletion came after it
        world.command("dlq", "replay")
        assert (await texts(world, "deleted"), problem(world)) == ([], None)

    asyncio.run(scenario())


def test_an_emptied_topic_needs_no_worker_to_be_verified(world: World) -> None:
    """The registry is deleted, and there is no record that a worker would start for."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"one", OLD), (b"two", NEW)])
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await retention(world)
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await client.indices.delete(index=f"{index}-registry")
        assert world.command("index", "create").returncode == 0
        assert problem(world)
        assert verified(world, "--repair")[1] == 0
        assert problem(world) is None
        assert world.command("dlq", "replay").returncode == 0

    asyncio.run(scenario())


def test_a_group_without_claims_has_lost_nothing_of_an_index_that_is_whole(world: World) -> None:
    """The newest records are no documents, and all of them were read."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"one", OLD), *[(b"bad", b"{")] * 5])
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await retention(world)
        await world.delete_topic(world.settings.changelog_topic)
        await world.ready(worker := world.start_worker())
        lost = f'penstock_records_lost_total{{partition="0",topic="{world.name}"}}'
        assert worker.metrics()[lost] == 0

    asyncio.run(scenario())


def test_a_letter_of_a_partition_that_is_gone_holds_up_no_other(world: World) -> None:
    """A pointer: the topic was made anew with fewer partitions, and nobody has the record."""

    async def scenario() -> None:
        await world.shrink_dead_letters(60_000)
        await world.create(partitions=2)
        await world.produce([(b"big", b'{"text": ' + b"x" * 100_000)], partition=1)
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await new_log(world, 1, claims_too=False)
        await world.produce([(b"poisoned", POISON)])
        assert bump(world).returncode == 0
        await world.settled(worker=world.start_worker(change=BROKEN))
        replayed = world.command("dlq", "replay")
        assert "cannot be reached" not in replayed.stderr, replayed.stderr
        assert await texts(world, "poisoned")

    asyncio.run(scenario())


def test_half_a_rebuild_has_lost_nothing(world: World) -> None:
    """It was killed, the topic has lost the records, and the index that it takes from has all."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{number}".encode(), OLD) for number in range(600))
        await world.settled(worker=world.start_worker())
        await retention(world)
        gate, output = world.gate(), world.tmp / "rebuild"
        gate.let(2)
        process = world.start("index", "rebuild", output=output, errors=output, extra=gate.environment)
        await gate.holds(process)
        process.kill()
        assert process.wait() < 0
        own = {"PENSTOCK_SOURCE__GROUP": f"{world.name}-2"}
        found = json.loads(world.command("index", "verify", "--json", extra=own).stdout)
        assert found["kinds"]["not rebuilt yet"] > 0
        assert "content lost" not in found["kinds"]
        refused = world.command("index", "verify", "--repair", "--accept-data-loss", extra=own)
        assert (refused.returncode, "`penstock index rebuild` goes on" in refused.stderr) == (3, True), refused.stderr
        assert world.command("index", "rebuild").returncode == 0
        await world.settled_as(own, world.start_worker(own))
        promoted = world.command("index", "promote")
        assert promoted.returncode == 0, promoted.stderr
        assert json.loads(world.command("index", "verify", "--json", extra=own).stdout)["documents"] == 600

    asyncio.run(scenario())


def test_the_way_back_names_the_group_of_the_index_before(world: World) -> None:
    """Its registry is deleted, or both are restored, after readers were given another group's index."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"one", OLD)])
        await world.settled(worker=(worker := world.start_worker()))
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            made = json.loads(world.command("index", "rebuild", "--json").stdout)
            own = {"PENSTOCK_SOURCE__GROUP": made["group"]}
            await world.settled_as(own, world.start_worker(own))
            assert world.command("index", "promote").returncode == 0
            assert worker.terminate() == 0
            await client.indices.delete(index=both)
            await client.snapshot.restore(
                repository=world.name, snapshot="one", indices=both, include_aliases=False, wait_for_completion=True
            )
            refused = world.command("index", "rollback", extra=own)
            way = f"`PENSTOCK_SOURCE__GROUP={world.name} penstock index create` opens it"
            assert (refused.returncode, way in refused.stderr) == (3, True), refused.stderr
            await client.indices.delete(index=both.partition(",")[2])
            refused = world.command("index", "rollback", extra=own)
            assert "with the source.group of its workers" in refused.stderr, refused.stderr
        assert world.command("index", "create").returncode == 0
        await world.settled(worker=world.start_worker())
        assert world.command("index", "verify", "--repair").returncode == 0
        done = world.command("index", "rollback", extra=own)
        assert done.returncode == 0, done.stderr

    asyncio.run(scenario())


def test_retention_takes_the_newer_records_of_keys_that_moved(world: World) -> None:
    """What is left on the partition before says nothing of them: no damage, and no repair takes them back."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(documents(range(20)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await grow(world, 2)
        assert bump(world).returncode == 0
        await world.produce(documents(range(20), salt=900))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        before = await world.chunks()
        async with log_reader(world.settings) as reader:
            end = (await reader.bounds(world.name, [1]))[1].end
            assert end, "keys that moved"
            await reader.delete_before(world.name, {1: end})
        found, code = verified(world)
        assert (code, found["kinds"]) == (0, {"no record": end}), found
        async with connect(world.settings.elasticsearch) as client:
            index = next(iter(await client.indices.get_alias(name=world.name)))
            moved = next(entry["doc_id"] for entry in (await world.registry()).values() if entry["partition"] == 1)
            row = await client.get(index=index, id=f"{moved}#0", source_includes="*,vector")
            extra = row["_source"] | {"metadata": row["_source"]["metadata"] | {"chunk": 9}}
            await Damage(client, index).put(f"{moved}#9", extra, 1)
        found, code = verified(world, "--repair")
        assert (code, found["kinds"]) == (0, {"no record": end, "orphan chunk": 1}), found
        after = {key: row for key, row in (await world.chunks()).items() if not row["penstock"]["stub"]}
        assert after == before, "the orphan goes, and the only copy of its document stays"

    asyncio.run(scenario())


def test_a_registry_is_lost_and_partitions_are_added(world: World) -> None:
    """Each of the two refusals leads on, and nothing makes the index look as if it were whole."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"one", OLD), (b"two", OLD)])
        await world.settled(worker=world.start_worker())
        await retention(world)
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await lose_registry(world, client, index)
            await grow(world, 2)
            missing = world.command("index", "epoch", "bump", "--why", "a test")
            assert (missing.returncode, "`penstock index create`" in missing.stderr) == (3, True), missing.stderr
            moved = world.command("index", "create")
            assert (moved.returncode, "penstock index epoch bump" in moved.stderr) == (3, True), moved.stderr
            bump(world)
            made = world.command("index", "create")
            assert (made.returncode, "index verify --repair" in made.stderr) == (0, True), made.stderr
        await world.settled(worker=world.start_worker())
        assert verified(world, "--repair")[1] == 0
        assert ([bool(await texts(world, doc)) for doc in ("one", "two")], problem(world)) == ([True, True], None)

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["closed", "set back"])
def test_a_purge_leaves_what_another_groups_index_may_need(world: World, how: str) -> None:
    """Its letter is open, and the index closed; or it was replayed, and then the chunks were set back."""
    group = {"PENSTOCK_SOURCE__GROUP": f"{world.name}-2"}
    index = f"{world.name}-all-minilm-l6-v2-000002"

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"fine", OLD)])
        await world.settled(worker=world.start_worker())
        assert world.command("index", "rebuild").returncode == 0
        await world.produce([(b"torn", POISON)])
        await world.settled(worker=world.workers[0])
        broken = world.start_worker(group, change=BROKEN)
        await world.settled_as(group, broken)
        assert broken.terminate() == 0
        async with connect(world.settings.elasticsearch) as client:
            if how == "closed":
                await client.indices.close(index=f"{index},{index}-registry")
            else:
                await world.ready(world.start_worker(group))
                await snapshot(world, client, index)
                assert world.command("dlq", "replay", extra=group).returncode == 0
                await retention(world)
                await set_back(world, client, index)
                await world.settled_as(group, world.start_worker(group))
        world.command("dlq", "purge", "--yes")
        async with log_reader(world.settings) as reader:
            assert (await reader.bounds(world.settings.dead_letter_topic, [0]))[0].begin == 0
        if how == "set back":
            done = world.command("index", "verify", "--repair", extra=group)
            assert done.returncode == 0, done.stdout

    asyncio.run(scenario())


def test_what_may_be_the_last_copy_is_not_dropped(world: World) -> None:
    """Beside an index that serves, and that nobody has verified since it was set back."""
    group = {"PENSTOCK_SOURCE__GROUP": f"{world.name}-2"}
    first, second = (f"{world.name}-all-minilm-l6-v2-00000{number}" for number in (1, 2))

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"older", OLD)])
        await world.settled(worker=(before := world.start_worker()))
        assert world.command("index", "rebuild").returncode == 0
        await world.settled_as(group, world.start_worker(group))
        assert world.command("index", "promote", second, "--unchecked").returncode == 0
        async with connect(world.settings.elasticsearch) as client:
            await snapshot(world, client, second)
            await set_back(world, client, second)
        await world.settled_as(group, world.start_worker(group))
        assert before.terminate() == 0
        refused = world.command("index", "drop", first, "--yes")
        told = "penstock index verify --repair`, once the workers have caught up"
        assert (refused.returncode, told in refused.stderr) == (3, True), refused.stderr
        assert world.command("index", "verify", "--repair", extra=group).returncode == 0
        dropped = world.command("index", "drop", first, "--yes")
        assert dropped.returncode == 0, dropped.stderr

    asyncio.run(scenario())


def test_deletions_that_no_worker_saw(world: World) -> None:
    """Compaction took the tombstones: of keys that moved, and of one whose newest record the registry does not know."""

    async def scenario() -> None:
        await world.create(partitions=1, configs=COMPACTED)
        await world.produce([(b"gone", OLD), (b"kept", OLD), (b"moved", OLD), (b"bad", OLD), (b"bad", b"{")])
        await world.settled(worker=world.start_worker())
        await grow_into_an_epoch(world, 2)
        async with connect(world.settings.elasticsearch) as client:
            registry = (await snapshot(world, client)).partition(",")[2]
            await world.produce([(b"gone", NEW)], partition=0)
            await world.produce([(b"moved", NEW), (b"bad", NEW)], partition=1)
            await world.settled(worker=world.workers[-1])
            assert world.workers[-1].terminate() == 0
            await world.produce([(b"gone", None)], partition=0)
            await world.produce([(b"moved", None), (b"bad", None)], partition=1)

            async def compacted() -> bool:
                for partition in range(2):
                    await world.produce([(f"busy-{partition}".encode(), OLD)], partition=partition)
                left = {(row.partition, row.key) for row in await read_topic(world.settings, world.name)}
                return left.isdisjoint({(0, b"gone"), (1, b"moved"), (1, b"bad")})

            await until(compacted, every_s=1)
            await world.settled(worker=world.start_worker())

            async def produce(turn: int) -> None:
                for partition in range(2):
                    await world.produce([(f"busy-{partition}".encode(), {"text": f"{turn}"})], partition=partition)

            async with again_and_again(produce, 0.1):  # on each partition more may have come than was looked at
                found, code = await asyncio.to_thread(verified, world)
            assert (code, found["kinds"]) == (1, {"deleted meanwhile": 3}), found
            await restore(world, client, registry)
        await world.produce([(b"unsettled", OLD)], partition=0)
        assert verified(world, "--repair")[1] == 0
        assert [await texts(world, doc) for doc in ("gone", "moved", "bad")] == [[], [], []]
        assert await texts(world, "kept")
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
