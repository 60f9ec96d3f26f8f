"""Faults 26, 28, 34 and 37: the topic, the changelog or the index is not the one that it was."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from agents.elastic.client import connect
from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from streams.epochs import Cut, Epochs, from_contract
from streams.record import Record
from tests.kit.harness import Worker, World, snapshot
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text
from tests.stack.test_verify import verified

MODEL_SPEED = "fast"
BUMP_IT = ("index", "epoch", "bump", "--why", "a test")


async def exits_with_3(worker: Worker, *parts: str) -> None:
    """It refuses to go on, and says what to do."""
    assert await worker.ended() == 3, worker.log.read_text()[-2000:]
    said = worker.log.read_text()
    for part in (*parts, "penstock index epoch bump --why"):
        assert part in said, said[-2000:]


async def grow(world: World, partitions: int) -> None:
    """More partitions for the source topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.settings.kafka.bootstrap_servers)
    await admin.start()
    await admin.create_partitions({world.name: NewPartitions(total_count=partitions)})
    await admin.close()


def bump(world: World) -> Any:
    """Run the command."""
    return world.command(*BUMP_IT)


async def grow_into_an_epoch(world: World, partitions: int) -> None:
    """The worker that was started last refuses to go on; the next one settles what is there, in a new epoch."""
    await grow(world, partitions)
    await exits_with_3(world.workers[-1], f"has {partitions}")
    bump(world)
    await world.settled(worker=world.start_worker())


def test_partitions_are_added_under_load_and_keys_move(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 28: refused until the epoch is cut; then a document that moved partition is newest there."""

    async def scenario() -> None:
        await world.create(partitions=4)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 3)}) for i in range(200))
        worker = world.start_worker()
        await world.ready(worker)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 2)}) for i in range(150))
        await grow(world, 8)
        await exits_with_3(worker, "has 8 partitions now")
        moved = await world.produce((f"doc-{i}".encode(), {"text": text(1000 + i, 1 + i % 4)}) for i in range(120))
        assert any(record.partition >= 4 for record in moved)
        await exits_with_3(world.start_worker(), "has 8")
        status = json.loads(world.command("status", "--json").stdout)
        assert len(status["partitions"]) == 8
        assert "penstock index epoch bump" in status["problem"]
        (second,) = await world.follow("Partitions were added to the source topic")
        running = bump(world)
        assert (running.returncode, "stop them first" in running.stderr) == (3, True), running.stderr
        assert second.terminate() == 0
        assert bump(world).stdout.startswith("epoch 2 begins: by hand")
        assert bump(world).stdout == "epoch 2 goes on: nothing came since the last cut\n"
        third = world.start_worker()
        await world.produce([(b"doc-1", {"text": "After the second cut."}), (b"doc-2", None)])
        await world.settled(worker=third)
        found, code = verified(world)
        assert code == 0, found
        await assert_epochs(world, embedder)

    asyncio.run(scenario())


def test_what_an_open_transaction_holds_back_is_older_than_the_cut(world: World, embedder: OnnxEmbedder) -> None:
    """The log ends for readers at the first open transaction, and for producers behind it: the cut is made there."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 2)}) for i in range(20))
        held = AIOKafkaProducer(**connection(world.settings), transactional_id=world.name)
        await held.start()
        async with held.transaction():
            for number in range(2):
                key, value = f"held-{number}".encode(), b'{"text": "In a transaction."}'
                place = await held.send_and_wait(world.name, value, key, number)
                world.produced.append(
                    Record(
                        topic=world.name, partition=number, offset=place.offset, timestamp_ms=0, key=key, value=value
                    )
                )
            await world.produce((f"doc-{i}".encode(), {"text": text(500 + i, 3)}) for i in range(20))
            await grow(world, 4)
            done = bump(world)
            assert done.returncode == 0, done.stderr
            worker = world.start_worker()
            await world.ready(worker)
            moved = await world.produce((f"doc-{i}".encode(), {"text": text(1000 + i, 2)}) for i in range(20))
            assert any(record.partition >= 2 for record in moved)
            await world.settled(worker=worker)  # what moved is indexed before the older records can be read
        await held.stop()
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        found, code = verified(world)
        assert code == 0, found
        assert await world.dead_letters() == []
        await assert_epochs(world, embedder)

    asyncio.run(scenario())


def test_what_an_open_transaction_holds_back_needs_the_entries_of_deleted_documents(world: World) -> None:
    """A record of an earlier epoch, older than the deletion: without the entry it would bring the document back."""

    async def scenario() -> None:
        await world.create(partitions=1)
        producer = AIOKafkaProducer(**connection(world.settings), transactional_id=world.name)
        async with producer, producer.transaction():
            await producer.send_and_wait(world.name, b'{"text": "Ancient."}', b"deleted", 0)
            await grow(world, 2)
            assert bump(world).returncode == 0
            await world.produce([(b"deleted", None)], partition=1)
            await world.settled(worker=(worker := world.start_worker()))
            done = world.command("index", "vacuum", "--before", "0s", "--json")
            assert (json.loads(done.stdout)["entries"], json.loads(done.stdout)["kept"]) == (0, 1), done.stdout
        await world.settled(worker=worker)
        assert [row for row in (await world.chunks()).values() if not row["penstock"]["stub"]] == []
        found, code = verified(world)
        assert code == 0, found

    asyncio.run(scenario())


async def assert_epochs(
    world: World, embedder: OnnxEmbedder, also_dead: frozenset[tuple[int, int]] = frozenset()
) -> None:
    """The oracle, with the cuts of the contract: a key may be on several partitions, the greatest version is newest."""
    async with connect(world.settings.elasticsearch) as client:
        (index,) = await client.indices.get_alias(name=world.name)
        mapping = await client.indices.get_mapping(index=index)
        epochs = from_contract(mapping[index]["mappings"]["_meta"]["penstock"]["cuts"])
    await assert_true(world, embedder, epochs=epochs, also_dead=also_dead)


def test_a_bump_goes_on_where_it_was_interrupted(world: World) -> None:
    """Between the cut and the aliases: no worker can write until both are of one epoch."""
    killed = "import os, agents.elastic.index as index\nasync def end(*_):\n    os._exit(9)\n"

    async def scenario() -> None:
        await world.create(partitions=1)
        await grow(world, 2)
        after = killed + "set_epochs = index.Index.set_epochs\n"
        after += "async def cut(*arguments):\n    index.open_for_writing = end\n    await set_epochs(*arguments)\n"
        done = world.command(*BUMP_IT, change=after + "index.Index.set_epochs = cut\n")
        assert done.returncode == 9, done.stderr
        assert "not open for writing" in world.command("config", "check").stderr
        done = bump(world)
        assert (done.returncode, "nothing came since the last cut" in done.stdout) == (0, True), done.stderr
        checked = world.command("config", "check")
        assert checked.returncode == 0, checked.stderr

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [0, 300])
def test_the_topic_is_deleted_and_made_anew_under_a_worker(world: World, embedder: OnnxEmbedder, count: int) -> None:
    """Fault 34: with none, or more new records than were claimed of the old topic; none is skipped."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 2)}) for i in range(100))
        worker = world.start_worker()
        await world.settled(worker=worker)
        await world.delete_topic(world.name)
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 1, {})
        old, world.produced = world.produced, []
        await world.produce((f"doc-{i % 40}".encode(), {"text": text(500 + i)}) for i in range(count))
        await exits_with_3(worker, "is not the log that was indexed")
        await exits_with_3(world.start_worker(), "is not the log that was indexed")
        await world.produce([(b"doc-99", None), (b"new", {"text": "Only in the new topic."})])
        await world.follow("The topic was deleted and made anew")
        named = {record.key for record in world.produced}
        forgotten = {(record.key or b"").decode() for record in old if record.key not in named}
        found, code = verified(world)
        assert code == 0, found
        assert found["kinds"] == ({"no record": len(forgotten)} if forgotten else {})  # nobody deleted them
        await assert_true(world, embedder, ignore=forgotten, epochs=Epochs((Cut(at="", why="", offsets={}),)))

    asyncio.run(scenario())


def test_the_changelog_is_deleted(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 26: everything is looked at again, and nothing is embedded again."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(60))
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        await world.delete_topic(world.settings.changelog_topic)
        (second,) = await world.follow("The changelog topic is gone")
        assert second.metrics()["penstock_chunks_embedded_total"] == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_the_index_is_restored_from_a_snapshot(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 37: what came after the snapshot is processed again, and chunks that went since are gone again."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 60)}) for i in range(20))
        worker = world.start_worker()
        await world.settled(worker=worker)
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            await world.produce((f"doc-{i}".encode(), {"text": text(i)} if i % 3 else None) for i in range(12))
            await world.settled(worker=worker)
            await client.indices.delete(index=both)
            await client.snapshot.restore(repository=world.name, snapshot="one", indices=both, wait_for_completion=True)
        assert await worker.ended() == 3  # a running worker notices, too
        refused = world.start_worker()
        assert await refused.ended() == 3
        assert "`penstock index create` opens it" in refused.log.read_text()
        (last,) = await world.follow("The index was restored from a snapshot")
        assert last.metrics()["penstock_chunks_embedded_total"] == 8, "of what came after the snapshot"
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_the_index_is_set_back_under_an_idle_worker(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 37, in place: closed, restored and open again, with the same name, uuid and aliases."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 60)}) for i in range(10))
        worker = world.start_worker()
        await world.settled(worker=worker)
        async with connect(world.settings.elasticsearch) as client:
            both = await snapshot(world, client)
            await world.produce((f"doc-{i}".encode(), {"text": text(i)} if i % 3 else None) for i in range(12))
            await world.settled(worker=worker)
            await client.indices.close(index=both)
            await client.snapshot.restore(repository=world.name, snapshot="one", indices=both, wait_for_completion=True)
        assert await worker.ended() == 3
        assert "was restored" in worker.log.read_text()
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())
