"""Faults 4, 16, 17, 19–21, 23, 27, 30, 33, 35, 38 and the watchdog: of processes, topics and clocks."""

import asyncio
import fcntl
import os
import signal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.elastic.client import connect
from agents.local.servers import free_port
from models.onnx.embedder import OnnxEmbedder
from streams.record import Record
from tests.kit.harness import BLIND, DOOMED, HANGS, PATIENCE_S, SHORT_REVOKE, Worker, World, until
from tests.kit.oracle import assert_true, no_regress
from tests.stack.test_faults import text

MODEL_SPEED = "fast"


def test_watchdog_ends_a_worker_whose_claim_stands_still(world: World, embedder: OnnxEmbedder) -> None:
    """A model that never returns: lag, healthy targets, no progress."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(3))
        worker = world.start_worker({"PENSTOCK_LIFECYCLE__STALL_S": "5", **DOOMED}, change=HANGS)
        assert await worker.ended() == 1
        assert "settled offset stands still at 0" in worker.log.read_text()
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


BELOW_THE_BOUND = """
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance as Rebalance
plain = Rebalance.__init__

def begin(self, *arguments):
    plain(self, *arguments)
    self._session_timeout_ms = 1

Rebalance.__init__ = begin
"""
"""A change: the group is joined with a session timeout of 1 ms, which no broker takes."""


def test_a_group_that_does_not_take_a_worker_is_told_by_its_cause(world: World) -> None:
    """Before the watchdog calls it a rebalance that does not end: a foreign member, and the broker's bounds."""
    soon = {"PENSTOCK_LIFECYCLE__STALL_S": "20"}

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"doc", {"text": "A document."})])
        foreign = AIOKafkaConsumer(
            world.name, bootstrap_servers=world.settings.kafka.bootstrap_servers, group_id=world.name
        )
        await foreign.start()
        try:
            worker = world.start_worker(soon)
            assert await worker.ended() == 3, worker.log.read_text()[-2000:]
            (last,) = worker.log.read_text().splitlines()[-1:]
            assert last.startswith(f"penstock: another program uses the consumer group of source.group = {world.name} ")
            assert "(members: aiokafka-" in last
        finally:
            await foreign.stop()
        worker = world.start_worker(soon, change=BELOW_THE_BOUND)
        assert await worker.ended() == 2, worker.log.read_text()[-2000:]
        (last,) = worker.log.read_text().splitlines()[-1:]
        assert last.startswith("penstock: kafka.session_timeout_s = 10 is outside the broker's bounds")
        await world.settled(worker=world.start_worker())

    asyncio.run(scenario())


def test_a_worker_whose_log_nobody_reads_goes_on_and_ends(world: World) -> None:
    """A terminal after Ctrl-S, or a log driver whose sink is away."""
    pipe = world.tmp / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)

    async def scenario() -> None:
        await world.create(partitions=1)
        port = free_port()
        extra = {"PENSTOCK_ADMIN__PORT": str(port), "PENSTOCK_DEAD_LETTERS__MAX_RATIO": "1"}
        worker = Worker(world.start("worker", output=pipe, errors=pipe, extra=extra), Path(os.devnull), port)
        world.workers.append(worker)
        await world.ready(worker)
        await world.produce((f"bad-{i}".encode(), {"txt": "x"}) for i in range(200))
        await world.produce([(b"good", {"text": "What comes after them is indexed."})])
        await world.settled(worker=worker)
        assert len(await world.chunks()) == 1
        assert await asyncio.to_thread(worker.terminate) == 0

    try:
        asyncio.run(scenario())
    finally:
        os.close(reader)


def test_a_worker_joins_and_leaves_in_the_middle_of_slow_batches(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 19: no regress, and hardly any work twice; more workers than partitions is a healthy state."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 8)}) for i in range(1000))
        async with no_regress(world):
            gate = world.gate()
            first = world.start_worker(gate.environment, change=SHORT_REVOKE)
            await world.held_in_the_middle(first, gate)
            second, third = (world.start_worker(gate.environment, change=SHORT_REVOKE) for _ in range(2))
            await world.ready(second)
            await world.ready(third)  # one of the three has no partition
            second.process.send_signal(signal.SIGTERM)
            await second.said("stopping")
            assert await world.lag() > 0
            gate.open()
            assert await second.ended() == 0
            await world.settled()
        embedded = [worker.metrics()["penstock_chunks_embedded_total"] for worker in (first, third)]
        assert sum(embedded) < 1000 + 3 * 512  # what two rebalances may have abandoned
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_a_zombie_wakes_up_after_its_successor_wrote(world: World, embedder: OnnxEmbedder) -> None:
    """Faults 16, 20 and 33: shards reopen while it sleeps past the session time-out; nothing old is revived."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 40)}) for i in range(150))
        gate = world.gate()
        zombie = world.start_worker({**gate.environment, **DOOMED})
        await world.held_in_the_middle(zombie, gate)
        settled = _settled_by(zombie)
        zombie.process.send_signal(signal.SIGSTOP)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)} if i % 2 else None) for i in range(150))
        async with no_regress(world):
            successor = world.start_worker()
            await world.settled(worker=successor)
            async with connect(world.settings.elasticsearch) as client:
                indices = ",".join(await client.indices.get(index=f"{world.name}-*"))
                await client.indices.close(index=indices)
                await client.indices.open(index=indices, wait_for_active_shards="1")
            gate.open()
            zombie.process.send_signal(signal.SIGCONT)

            async def wrote_or_ended() -> bool:
                return zombie.process.poll() is not None or await asyncio.to_thread(_settled_by, zombie) > settled

            await until(wrote_or_ended)
            await world.settled()
        assert zombie.process.poll() in (None, 1)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def _settled_by(worker: Worker) -> float:
    """Records that it brought to an end, whatever that was."""
    return sum(value for name, value in worker.metrics().items() if name.startswith("penstock_records_total"))


def test_wall_clock_jumps(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 21: every second call of `time.time` is a day off; nothing depends on it."""
    jump = (
        "import itertools, time\ndays = itertools.cycle([0, 86400, -86400])\n"
        "time.time = lambda real=time.time: real() + next(days)"
    )

    async def scenario() -> None:
        await world.create()
        await world.produce((f"doc-{i % 60}".encode(), {"text": text(i)}) for i in range(200))
        worker = world.start_worker(change=jump)
        await world.settled(worker=worker)
        assert await asyncio.to_thread(worker.terminate) == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_no_room_for_files(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 23: the table is in memory and claims are in Kafka; a process that can write no file works all the same."""

    async def scenario() -> None:
        await world.create()
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(100))
        nowhere = Path(os.devnull)
        limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
        process = world.start("worker", output=nowhere, errors=nowhere, change=limit)
        try:
            await world.settled()
        finally:
            process.terminate()
            code = await asyncio.to_thread(process.wait, PATIENCE_S)
        assert code == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_group_offsets_set_back_by_hand(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 27, first part: the log names both offsets, and nothing is processed again."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(50))
        first = world.start_worker()
        await world.settled(worker=first)
        assert await asyncio.to_thread(first.terminate) == 0
        consumer = AIOKafkaConsumer(
            bootstrap_servers=world.settings.kafka.bootstrap_servers, group_id=world.name, enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign([TopicPartition(world.name, 0)])
        await consumer.commit({TopicPartition(world.name, 0): 3})
        await consumer.stop()
        second = world.start_worker()
        await world.ready(second)
        await world.produce([(b"more", {"text": "More."})])
        await world.settled(worker=second)
        assert second.metrics()["penstock_chunks_embedded_total"] == 1
        log = second.log.read_text()
        assert "offsets are below the claims" in log
        assert "'committed': 3, 'claimed': 50" in log
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_an_idle_worker_notices_that_its_chunk_index_is_deleted(world: World) -> None:
    """Fault 27, second part, and nothing is produced that would tell it."""

    async def scenario() -> None:
        await world.create()
        worker = world.start_worker()
        await world.ready(worker)
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=f"{world.name}-{world.settings.model.name.lower()}-000001")
        assert await worker.ended() == 3
        assert "`penstock index create`" in worker.log.read_text()

    asyncio.run(scenario())


def test_chunk_index_deleted_under_a_worker_and_registry_deleted(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 27, second part: everything is indexed again, by no silent skip and into no dynamic mapping."""

    async def scenario() -> None:
        await world.create()
        index = f"{world.name}-{world.settings.model.name.lower()}-000001"
        await world.produce((f"doc-{i % 30}".encode(), {"text": text(i, 1 + i % 4)}) for i in range(60))
        first = world.start_worker()
        await world.settled(worker=first)
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=index)
            await world.produce([(b"doc-1", {"text": "Written after the index was gone."})])
            assert await first.ended() == 3
            assert "`penstock index create`" in first.log.read_text()
            deleted = await asyncio.to_thread(world.command, "worker")
            assert (deleted.returncode, "`penstock index create`" in deleted.stderr) == (3, True), deleted.stderr
            assert not await client.indices.exists(index=index)
            (second,) = await world.follow("The chunk index was deleted")
            assert "nobody has verified it" not in second.log.read_text()  # another index, and no entry is about it
            await assert_true(world, embedder)
            assert await asyncio.to_thread(second.terminate) == 0
            await client.indices.delete(index=f"{index}-registry")
            refused = await asyncio.to_thread(world.command, "worker")
            assert refused.returncode == 3
            assert "`penstock index create` makes it anew" in refused.stderr
        await world.follow("The registry was deleted")
        await assert_true(world, embedder)

    asyncio.run(scenario())


SLOW = (
    "import time\nfrom agents.indexing.stages import Stages\nsplit = Stages._split\n"
    "Stages._split = lambda self, work, **options: "
    "(b'slow' in work.record.value and (print('it splits', flush=True), time.sleep(60)), "
    "split(self, work, **options))[1]"
)
CANCELLED = (
    "import asyncio\nfrom agents.worker.app import PenstockApp\ncrash = PenstockApp.crash\n"
    "async def as_faust_does_now_and_then(self, reason):\n"
    "    await crash(self, reason)\n"
    "    for agent in self.agents.values():\n"
    "        for actor in list(agent._actors):\n"
    "            await actor.crash(asyncio.CancelledError())\n"
    "PenstockApp.crash = as_faust_does_now_and_then"
)


@pytest.mark.parametrize("change", [SLOW, CANCELLED], ids=["while it splits", "which crashes in turn"])
def test_an_agent_that_is_cancelled_by_a_crash_does_not_hide_its_exit_code(world: World, change: str) -> None:
    """The index is found to be gone."""

    async def scenario() -> None:
        await world.create(partitions=1)
        worker = world.start_worker(change=change)
        await world.ready(worker)
        await world.produce([(b"doc", {"text": "slow"})])
        await (worker.said("it splits") if change == SLOW else world.settled(worker=worker))
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=f"{world.name}-{world.settings.model.name.lower()}-000001")
        assert await worker.ended() == 3, worker.log.read_text()[-2000:]
        assert worker.log.read_text().splitlines()[-1].startswith("penstock: ")

    asyncio.run(scenario())


CLOSES_SLOWLY = (
    "import asyncio\nfrom agents.worker.app import PenstockApp\nstop = PenstockApp.on_stop\n"
    "async def slowly(self):\n"
    "    await stop(self)\n"
    "    await asyncio.sleep(3)\n"
    "PenstockApp.on_stop = slowly"
)


def test_a_model_that_is_let_go_is_asked_nothing_more(world: World) -> None:
    """Its known vectors are due every second, also while Faust closes: the stop was drained, and ends with 0."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"doc", {"text": "text"})])
        worker = world.start_worker({"PENSTOCK_MODEL__CANARY_S": "1"}, CLOSES_SLOWLY)
        await world.settled(worker=worker)
        assert await asyncio.to_thread(worker.terminate) == 0, worker.log.read_text()[-2000:]
        assert "Traceback" not in worker.log.read_text()

    asyncio.run(scenario())


def test_a_copy_with_the_write_alias_is_no_documents_fault(world: World) -> None:
    """A snapshot that is restored beside the index, as Elasticsearch does by default with its aliases.

    The worker writes before it looks at its index again.
    """

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"there", {"text": "There."})])
        await world.settled(worker=(worker := world.start_worker(change=BLIND)))
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            held = (await client.indices.get_alias(index=index))[index]["aliases"]

            async def over() -> bool:
                return worker.process.poll() is not None or bool(await world.dead_letters())

            (alias,) = (name for name in held if "-write-" in name)
            await client.indices.create(index=f"copy-{index}", aliases={alias: {}})
            try:
                await world.produce([(b"new", {"text": "New."}), (b"there", None)])
                await until(over)
                assert worker.process.poll() == 1
                assert "a stub was refused" in worker.log.read_text()
                told = world.command("config", "check")
                assert (told.returncode, f"copy-{index} has the write alias of {index}, too" in told.stderr) == (
                    3,
                    True,
                )
            finally:
                await client.indices.delete(index=f"copy-{index}")
        await world.settled(worker=world.start_worker())
        assert await world.dead_letters() == []
        assert [row["text"] for row in (await world.chunks()).values() if "text" in row] == ["New."]

    asyncio.run(scenario())


def test_an_index_made_anew_is_never_written_by_a_worker_of_the_old_one(world: World, embedder: OnnxEmbedder) -> None:
    """The same, faster than the worker can notice."""

    async def scenario() -> None:
        await world.create(partitions=1)
        index = f"{world.name}-{world.settings.model.name.lower()}-000001"
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 4)}) for i in range(400))
        gate = world.gate()
        first = world.start_worker(gate.environment)
        await world.held_in_the_middle(first, gate)
        first.process.send_signal(signal.SIGSTOP)
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.delete(index=index)
        assert (await asyncio.to_thread(world.command, "index", "create")).returncode == 0
        gate.open()
        first.process.send_signal(signal.SIGCONT)
        assert await first.ended() == 3
        assert await world.chunks() == {}
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_dead_letter_topic_that_cannot_be_written(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 30: the source record is not acked, the wait is bounded, the message says what to look at."""

    async def scenario() -> None:
        await world.create(partitions=1)
        worker = world.start_worker(change="import agents.kafka.dead_letters as d\nd.WRITE_TIMEOUT_S = 4")
        await world.ready(worker)
        topic = world.settings.dead_letter_topic
        await world.delete_topic(topic)
        await world.produce([(b"bad", b"{"), (b"good", {"text": "Good."})])
        assert await worker.ended() == 1
        assert f"the dead-letter topic {topic} did not take {world.name}/0@0" in worker.log.read_text()
        assert await world.lag() == 2
        await world.settled(worker=world.start_worker())  # makes the topic anew
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_one_key_on_two_partitions(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 35: offsets of two partitions don't compare; the second one goes to the dead letters with the reason."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce([(b"same", {"text": "On partition 0."})], partition=0)
        worker = world.start_worker()
        await world.settled(worker=worker)
        (wrong,) = await world.produce([(b"same", {"text": "On partition 1."})], partition=1)
        await world.settled(worker=worker)
        (letter,) = await world.dead_letters()
        message = dict(letter.headers)["__connect.errors.exception.message"]
        assert b"seen on partition 0" in message
        assert worker.metrics()['penstock_dead_letters_total{stage="registry"}'] == 1
        world.produced.remove(wrong)
        await assert_true(world, embedder, also_rejected={(1, wrong.offset)})

    asyncio.run(scenario())


@pytest.mark.parametrize("ending", ["commit", "abort"])
def test_transactional_producer(world: World, embedder: OnnxEmbedder, ending: str) -> None:
    """Fault 38: aborted records are not indexed, and the lag reaches 0 past the markers at the end of the log."""

    async def scenario() -> None:
        await world.create(partitions=1)
        worker = world.start_worker()
        producer = AIOKafkaProducer(
            bootstrap_servers=world.settings.kafka.bootstrap_servers, transactional_id=f"{world.name}-p"
        )
        await producer.start()
        # aborted first: after a marker, the hole that admission proves would hide what a reader of everything does
        for turn, end in enumerate(["abort", "commit", "abort", "commit", ending]):
            await producer.begin_transaction()
            sent = []
            for i in range(5):
                key, value = f"{end}-{i}".encode(), b'{"text": "Turn %d, %s."}' % (turn, end.encode())
                place = await producer.send_and_wait(world.name, key=key, value=value)
                sent.append(
                    Record(topic=world.name, partition=0, offset=place.offset, timestamp_ms=0, key=key, value=value)
                )
            if end == "commit":
                await producer.commit_transaction()
                world.produced += sent
            else:
                await producer.abort_transaction()
        await producer.stop()
        await world.settled(worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_changelog_that_cannot_be_written(world: World, embedder: OnnxEmbedder) -> None:
    """No ack without a claim: the wait is bounded and the message names the topic."""

    async def scenario() -> None:
        await world.create(partitions=1)
        worker = world.start_worker(change="import agents.kafka.claims as c\nc.WRITE_TIMEOUT_S = 4")
        await world.ready(worker)
        await world.delete_topic(f"{world.name}-claims-changelog")
        await world.produce([(b"a", {"text": "A."})])
        assert await worker.ended() == 1
        assert "did not take the claim of partition 0" in worker.log.read_text()
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_a_chunk_that_does_not_fit_into_memory_is_a_dead_letter(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 24: batches are halved, and what does not run alone is rejected alone."""
    small = (
        "from models.onnx.session import Session\nreal = Session.run\n"
        "def run(self, batch):\n"
        "    if sum(map(len, batch)) > 150:\n"
        "        raise MemoryError('Failed to allocate memory')\n"
        "    return real(self, batch)\n"
        "import models.onnx.embedder\n"
        "models.onnx.embedder.golden_cosine = lambda *_: 1.0\n"
        "Session.run = run"
    )

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(40))
        (large,) = await world.produce([(b"doc-7", {"text": "word " * 200})])
        worker = world.start_worker(change=small)
        await world.settled(worker=worker)
        (letter,) = await world.dead_letters()
        headers = dict(letter.headers)
        assert headers["__connect.errors.exception.class.name"] == b"OutOfMemory"
        assert b"chunk 0 alone does not fit" in headers["__connect.errors.exception.message"]
        assert headers["__connect.errors.offset"] == str(large.offset).encode()
        chunks = await world.chunks()
        assert all(row["penstock"]["stub"] for row in chunks.values() if row["metadata"]["doc_id"] == "doc-7")
        await assert_true(world, embedder, also_rejected={(large.partition, large.offset)}, ignore={"doc-7"})

    asyncio.run(scenario())
