"""Index, claims, log and partitions lost or made anew, two of them together: what the life of a topic does at random.

The quick suite has each of them alone (`tests/stack/test_logs.py`).
"""

import asyncio
import json
import re
import time

from aiokafka import AIOKafkaProducer

from agents.clock import moment
from agents.elastic.client import connect
from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from streams.dead_letter import CONNECT
from streams.epochs import Cut, Epochs
from tests.kit.harness import BLIND, World, snapshot, until
from tests.kit.oracle import assert_true, place_of
from tests.stack.test_epochs import assert_epochs, bump, exits_with_3, grow
from tests.stack.test_logs import BUMP, documents, new_log, worker_of_one_window
from tests.stack.test_verify import verified

MODEL_SPEED = "fast"


def test_a_snapshot_older_than_the_new_log(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 43: the cut is not in it, and the log that it is about is gone."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(documents(range(30)))
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            await new_log(world, 1)
            world.produced = []
            await world.produce(documents(range(30), salt=900))
            assert bump(world).returncode == 0
            await world.settled(worker=(worker := world.start_worker()))
            assert worker.terminate() == 0
            await client.indices.delete(index=both)
            await client.snapshot.restore(
                repository=world.name, snapshot="one", indices=both, include_aliases=False, wait_for_completion=True
            )
            index, _ = both.split(",")
            await client.indices.put_alias(index=index, name=world.name)
        await exits_with_3(world.start_worker(), "is not the log that was indexed")
        assert bump(world).returncode == 0
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder, epochs=Epochs((Cut(at="", why="", offsets={}),)))

    asyncio.run(scenario())


def test_what_was_settled_before_anybody_noticed_that_partitions_grew_is_newer(
    world: World, embedder: OnnxEmbedder
) -> None:
    """Fault 46: at lag 0 too, the moment has to be said when keys moved between old partitions since then."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(40)))
        worker = world.start_worker(change=BLIND)
        await world.settled(worker=worker)
        await grow(world, 3)
        at_once = int(time.time() * 1000)  # one that is older than the first on a new partition is on the wrong side
        moved = await world.produce(documents(range(40), salt=100), timestamp_ms=at_once)
        ends = {number: max(row.offset + 1 for row in moved if row.partition == number) for number in (0, 1)}

        async def settled() -> bool:
            found = worker.metrics()
            name = "penstock_settled_offset"
            return all(found[f'{name}{{partition="{n}",topic="{world.name}"}}'] == end for n, end in ends.items())

        await until(settled)
        worker.kill()
        refused = bump(world)
        while "stop them first" in refused.stderr:  # the group has not forgotten it yet
            await asyncio.sleep(0.5)
            refused = bump(world)
        (when,) = re.findall(r"--at (\S+)`", refused.stderr)
        assert (refused.returncode, "a lag of 0" in refused.stderr) == (3, True), refused.stderr
        early = frozenset(place_of(letter.headers) for letter in await world.dead_letters())
        assert early, "keys that moved between old partitions"
        await world.follow("Partitions were added to the source topic", {"2026-03-01T12:00:00.250Z": when}, block=1)
        await assert_epochs(world, embedder, early)

    asyncio.run(scenario())


def test_an_index_made_anew_knows_that_partitions_were_added(world: World, embedder: OnnxEmbedder) -> None:
    """By the claims; and when those are gone, too, by the moment that the operator says, as the letters ask for."""
    began_ms = int(time.time()) * 1000 - 3_600_000

    async def replace(*, claims: bool) -> None:
        await asyncio.to_thread(world.delete_indices)
        if not claims:
            await world.delete_topic(world.settings.changelog_topic)
        made = world.command("index", "create")
        assert made.returncode == 0, made.stderr

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(40)), timestamp_ms=began_ms)
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await grow(world, 3)
        await world.produce(documents(range(40), salt=100), timestamp_ms=began_ms + 100)
        await replace(claims=True)  # before anybody said what the third partition is
        await exits_with_3(world.start_worker(), "has 3")
        runbook, example = "Partitions were added to the source topic", "2026-03-01T12:00:00.250Z"
        await world.follow(runbook, {example: moment(began_ms + 100)}, block=1)
        await assert_epochs(world, embedder)
        assert world.workers[-1].terminate() == 0
        await world.produce(documents(range(40), salt=200), timestamp_ms=began_ms + 200)
        assert world.command("index", "rebuild", "--in-place").returncode == 0  # the claims go, not what they know
        await replace(claims=True)
        await world.settled(worker=(worker := world.start_worker()))
        await assert_epochs(world, embedder)
        assert not await world.dead_letters()
        assert worker.terminate() == 0
        await replace(claims=False)
        await world.settled(worker=(worker := worker_of_one_window(world, len(world.produced))))
        assert worker.terminate() == 0
        letters = await world.dead_letters()
        assert letters, "keys that moved"
        assert all(b"epoch bump --why" in dict(letter.headers)[CONNECT + "exception.message"] for letter in letters)
        found, code = verified(world)
        assert (code, set(found["kinds"])) == (0, {"key on two partitions"}), "one letter speaks for two records"
        done = world.command("index", "epoch", "bump", "--why", "a test", "--at", moment(began_ms + 100))
        assert done.returncode == 0, done.stderr
        await world.settled(worker=world.start_worker())
        await assert_epochs(world, embedder, frozenset(place_of(letter.headers) for letter in letters))
        found, code = verified(world)
        assert code == 0, found

    asyncio.run(scenario())


def test_the_serving_index_is_lost_and_an_older_one_is_left(world: World, embedder: OnnxEmbedder) -> None:
    """What is left serves nobody: another group gets a new index, and the older one's is told to promote it."""

    async def lose(name: str) -> None:
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=f"{name},{name}-registry")

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(40)))
        await world.settled(worker=(worker := world.start_worker()))
        older = json.loads(world.command("index", "list", "--json").stdout)[0]["index"]
        rebuilt = json.loads(world.command("index", "rebuild", "--json").stdout)
        group = {"PENSTOCK_SOURCE__GROUP": rebuilt["group"]}
        assert worker.terminate() == 0
        assert world.command("index", "promote", rebuilt["index"]).returncode == 0
        await lose(rebuilt["index"])
        await new_log(world, 2)
        world.produced = []
        await world.produce(documents(range(40), salt=900))

        worker = world.start_worker(group)
        assert (await worker.ended(), "`penstock index create`" in worker.log.read_text()) == (3, True)
        made = world.command("index", "create", extra=group)
        assert (made.returncode, made.stdout.split()[0]) == (0, "created"), made.stdout + made.stderr
        await world.settled_as(group, worker := world.start_worker(group))
        assert worker.terminate() == 0
        found = json.loads(world.command("index", "verify", "--json", extra=group).stdout)
        assert (found["clean"], found["documents"], len(await world.chunks())) == (True, 40, 40)
        await lose(made.stdout.split()[-1])

        await exits_with_3(world.start_worker(), BUMP)  # that group has an index of its own, of the log before
        assert bump(world).returncode == 0
        await world.settled(worker=(worker := world.start_worker()))
        way_on = f"penstock index promote {older}"
        assert way_on in worker.log.read_text()
        status = json.loads(world.command("status", "--json").stdout)
        assert (status["lag"], way_on in status["problem"]) == (0, True), status
        assert way_on in world.command("index", "verify").stderr
        assert world.command(*way_on.split()[1:]).returncode == 0
        assert json.loads(world.command("status", "--json").stdout)["problem"] is None
        await assert_true(world, embedder, epochs=Epochs((Cut(at="", why="", offsets={}),)))

    asyncio.run(scenario())


def test_the_serving_index_of_another_topic_does_not_hide_what_claims_know(
    world: World, embedder: OnnxEmbedder
) -> None:
    """A topic is moved: the alias serves the old one's index while the new one's is filled, lost and made anew."""
    began_ms = int(time.time()) * 1000 - 3_600_000
    old = {"PENSTOCK_SOURCE__GROUP": f"{world.name}-old", "PENSTOCK_SOURCE__TOPIC": f"{world.name}-old"}

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            for topic in (world.name, f"{world.name}-old"):
                await reader.create_topic(topic, 2, {})
        assert world.command("index", "create", extra=old).returncode == 0
        worker = world.start_worker(old)
        await world.ready(worker)  # the index is its group's from then on
        assert worker.terminate() == 0
        made = world.command("index", "create")
        assert made.returncode == 0, made.stderr
        index = re.findall(r"created (\S+)", made.stdout)[0]
        await world.produce(documents(range(40)), timestamp_ms=began_ms)
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        await grow(world, 3)
        await world.produce(documents(range(40), salt=100), timestamp_ms=began_ms + 100)
        done = world.command("index", "epoch", "bump", "--why", "a test", "--at", moment(began_ms + 100))
        assert done.returncode == 0, done.stderr
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=f"{index},{index}-registry")
        assert world.command("index", "create").returncode == 0
        await world.settled(worker=world.start_worker())
        assert not await world.dead_letters(), "keys that moved"
        assert verified(world)[1] == 0

    asyncio.run(scenario())


def test_partitions_added_twice_before_an_epoch_began(world: World, embedder: OnnxEmbedder) -> None:
    """2 → 4 → 8: a key that moved twice is on two new partitions; the second moment tells its records apart."""
    began_ms = int(time.time()) * 1000 - 3_600_000

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(documents(range(40)), timestamp_ms=began_ms)
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        settled = len(world.produced)
        for turn, partitions in enumerate((4, 8), 1):
            await grow(world, partitions)
            await world.produce(documents(range(40), salt=100 * turn), timestamp_ms=began_ms + 100 * turn)
        assert bump(world).returncode == 0
        await world.settled(worker=(worker := worker_of_one_window(world, len(world.produced) - settled)))
        assert worker.terminate() == 0
        letters = await world.dead_letters()
        assert letters, "keys that moved twice"
        done = world.command("index", "epoch", "bump", "--why", "a test", "--at", moment(began_ms + 200))
        assert done.returncode == 0, done.stderr
        await world.settled(worker=world.start_worker())
        await assert_epochs(world, embedder, frozenset(place_of(letter.headers) for letter in letters))

    asyncio.run(scenario())


def test_the_moment_of_growth_may_be_in_an_open_transaction(world: World) -> None:
    """Keys moved between old partitions, too: the new one's first record tells when, though nobody may read it yet."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce([(b"moved", {"text": "Old."})], partition=0)
        await world.settled(worker=(worker := world.start_worker()))
        await grow(world, 3)
        producer = AIOKafkaProducer(**connection(world.settings), transactional_id=world.name)
        async with producer, producer.transaction():
            held = await producer.send_and_wait(world.name, b'{"text": "Held back."}', b"held", 2)
            await world.produce([(b"moved", {"text": "New."})], partition=1, timestamp_ms=held.timestamp + 5)
            await exits_with_3(worker, "has 3")
            refused = bump(world)
            assert (refused.returncode, "1 records from then on" in refused.stderr) == (3, True), refused.stderr
            when = moment(held.timestamp)
            assert f"--at {when}` (that is the first record there)" in refused.stderr
            await world.follow("Partitions were added to the source topic", {"2026-03-01T12:00:00.250Z": when}, block=1)
        await world.settled(worker=world.workers[-1])
        found = {row["metadata"]["doc_id"]: row["text"] for row in (await world.chunks()).values()}
        assert found == {"moved": "New.", "held": "Held back."}
        found, code = verified(world)
        assert code == 0, found

    asyncio.run(scenario())
