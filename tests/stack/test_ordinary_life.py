"""Faults 39-41: what happens to every topic, and what every producer may send."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiokafka.producer.message_accumulator as accumulator
import aiokafka.producer.producer as producer_module
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from agents.configured import contract_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import Checked
from agents.kafka.connection import connection
from agents.kafka.reader import LogReader, log_reader, record_of
from agents.operations.verify import verify
from models.onnx.embedder import OnnxEmbedder
from streams.ports import Page
from tests.kit.harness import World, read_topic, until
from tests.kit.kafka_tools import java, kafka_script
from tests.kit.oracle import assert_true

MODEL_SPEED = "fast"
LONG = "x" * 900
"""So that a fetch, which may hold 1 MiB, does not hold all records; few tokens, for which no test has to wait."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TIMES = (-1, 0, 1, 1_700_000_000_000_000, 2**63 - 1, 1_700_000_000_000_000_001)


class NotUtf8(str):
    """A header key of other bytes, for aiokafka's producer in Python."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"key \xff\xc3("


def lost(worker: Any, topic: str) -> float:
    """What a worker has counted as lost on partition 0."""
    return float(worker.metrics()[f'penstock_records_lost_total{{partition="0",topic="{topic}"}}'])


async def committed_up_to(world: World, reader: LogReader, offset: int) -> None:
    """The group's offset, which other tools look at: Faust commits once a second."""

    async def is_there() -> bool:
        return (await reader.committed(world.name, world.name, [0])).get(0, 0) >= offset

    await until(is_there)


def test_retention_overtakes_a_worker_and_whoever_else_reads(
    world: World, embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 39: what is left is indexed, what is lost is counted, exactly; nobody goes on at the log's end."""
    gate = world.gate()
    extra = {"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(1024**2), **gate.environment}

    async def documents() -> set[int]:
        return {int(row["metadata"]["doc_id"]) for row in (await world.chunks()).values()}

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((str(i).encode(), {"text": f"Record {i}. {LONG}"}) for i in range(4000))
        worker = world.start_worker(extra)
        await world.ready(worker)
        assert lost(worker, world.name) == 0

        async def held_back() -> bool:
            return worker.metrics()["penstock_paused"] == 1

        await until(held_back, 60)
        async with log_reader(world.settings) as reader:
            await reader.delete_before(world.name, {0: 2000})
            gate.open()
            await world.settled(worker=worker)
            missing = sorted(set(range(4000)) - await documents())
            assert missing == list(range(missing[0], 2000)), (missing[:3], missing[-3:], len(missing))
            assert lost(worker, world.name) == len(missing)
            assert "records were lost to retention" in worker.log.read_text()
            await committed_up_to(world, reader, 4000)
            assert worker.terminate() == 0

            await world.produce((str(i).encode(), {"text": f"Record {i}. {LONG}"}) for i in range(4000, 5000))
            await reader.delete_before(world.name, {0: 4500})
            worker = world.start_worker()
            await world.settled(worker=worker)
            assert lost(worker, world.name) == 500
            assert set(range(4000, 5000)) - await documents() == set(range(4000, 4500))

            real = LogReader.page

            async def page(self: LogReader, topic: str, partition: int, offset: int, end: int) -> Page:
                await reader.delete_before(world.name, {0: 4800})
                return await real(self, topic, partition, offset, end)

            monkeypatch.setattr(LogReader, "page", page)
            async with connect(world.settings.elasticsearch) as client:
                topic = await reader.require_topic(world.name)
                contract = contract_of(world.settings, [embedder.manifest], topic)
                identity = await Index(client, world.settings).identify(contract)
            checked = Checked(models=(embedder,), topic=topic, identity=identity)
            found, _ = await verify(world.settings, checked, repair=False, sample=0, report=lambda *_: None)
            assert found.kinds["lost meanwhile"] == 1
            assert (found.damaged, found.documents) == (0, 5000 - 500 - len(missing)), found.kinds

    asyncio.run(scenario())


def test_retention_takes_what_waited_for_a_worker_that_ended(world: World) -> None:
    """Fault 39: nothing of the partition was settled yet, so that only its first claim knows that it was ours."""
    gate = world.gate()

    async def scenario() -> None:
        await world.create(partitions=2)
        for partition in range(2):
            await world.produce(((f"{partition}-{i}".encode(), {"text": f"Record {i}."}) for i in range(10)), partition)
        worker = world.start_worker(gate.environment)
        await gate.holds(worker.process)
        worker.kill()
        async with log_reader(world.settings) as reader:
            await reader.delete_before(world.name, {0: 4})
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert lost(worker, world.name) == 4
        assert len(await world.chunks()) == 16

    asyncio.run(scenario())


def test_topics_that_lose_what_they_must_keep_are_named(world: World) -> None:
    """Made by hand, or by the broker itself, with its defaults."""

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await world.create(partitions=2)
            await reader.create_topic(world.settings.changelog_topic, 2, {})
            await reader.create_topic(world.settings.dead_letter_topic, 1, {})
            checked = world.command("config", "check")
            assert checked.returncode == 0, checked.stderr
            assert (
                f"--entity-name {world.settings.changelog_topic} --add-config cleanup.policy=compact" in checked.stderr
            )
            assert f"--entity-name {world.settings.dead_letter_topic} --add-config retention.ms=-1" in checked.stderr
            compacted = f"{world.name}.compacted"
            await reader.create_topic(compacted, 1, {"cleanup.policy": "compact,delete"})
        checked = world.command("config", "check", extra={"PENSTOCK_DEAD_LETTERS__TOPIC": compacted})
        assert checked.returncode == 3, checked.stderr
        assert f"the dead-letter topic {compacted} is compacted" in checked.stderr
        assert f"--entity-name {compacted} --add-config cleanup.policy=delete" in checked.stderr
        tiny = f"{world.name}.tiny"
        async with log_reader(world.settings) as reader:
            await reader.create_topic(tiny, 1, {"max.message.bytes": "600"})
        checked = world.command("config", "check", extra={"PENSTOCK_DEAD_LETTERS__TOPIC": tiny})
        assert checked.returncode == 3, checked.stderr
        assert f"{tiny} takes no record of more than 600 bytes" in checked.stderr
        assert f"--entity-name {tiny} --add-config max.message.bytes=" in checked.stderr

    asyncio.run(scenario())


def test_retention_reaches_beyond_an_open_transaction(world: World) -> None:
    """Fault 39: the log begins after the last record that may be read, and is the same log all the same."""

    async def scenario() -> None:
        await world.create(partitions=1)
        async with (
            log_reader(world.settings) as reader,
            AIOKafkaProducer(**connection(world.settings), transactional_id=world.name) as producer,
        ):
            await producer.begin_transaction()
            await producer.send_and_wait(world.name, key=b"open", value=b'{"text": "Not committed yet."}')
            await world.produce((f"{i}".encode(), {"text": f"Record {i}."}) for i in range(20))
            await reader.delete_before(world.name, {0: 10})
            worker = world.start_worker()
            await world.ready(worker)
            await world.settled(worker=worker)

            async def looked() -> bool:
                (row,) = worker.get("/statusz")[1]["partitions"]
                return (row["lag"], row["settled_offset"]) == (0, 10)

            await until(looked)
            await asyncio.to_thread(worker.terminate)
            await producer.commit_transaction()
            worker = world.start_worker()
            await world.settled(worker=worker)
        assert len(await world.chunks()) == 11
        assert worker.process.poll() is None

    asyncio.run(scenario())


def test_a_transaction_that_does_not_end_is_told_and_ended(world: World, tmp_path: Path) -> None:
    """Fault 38: others' documents wait behind it, in no lag. Whoever asks is told, and the runbook ends it."""

    def told() -> tuple[str, str, dict[str, Any]]:
        verified = world.command("index", "verify")
        assert verified.returncode == 0, verified.stderr
        return world.command("status").stdout, verified.stdout, json.loads(world.command("status", "--json").stdout)

    async def scenario() -> None:
        await world.create(partitions=1)
        worker = world.start_worker()
        await world.produce([(b"first", {"text": "Before it."})])
        await world.settled(worker=worker)
        async with AIOKafkaProducer(**connection(world.settings), transactional_id=world.name) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(world.name, key=b"open", value=b'{"text": "Never committed."}')
            await world.produce((f"{i}".encode(), {"text": f"Record {i}."}) for i in range(20))

            async def held_back() -> bool:
                (row,) = worker.get("/statusz")[1]["partitions"]
                return (row["lag"], row["held_back"]) == (0, 21)

            await until(held_back)
            assert worker.metrics()[f'penstock_held_back_records{{partition="0",topic="{world.name}"}}'] == 21
            status, verified, data = await asyncio.to_thread(told)
            assert f"{world.name}/0: 21 offsets are behind an open transaction" in status
            assert "nothing wrong so far\n21 offsets are behind an open transaction" in verified
            assert (data["lag"], data["held_back"], data["partitions"][0]["held_back"]) == (0, 21, 21)
            kafka_script(tmp_path / "kafka-transactions.sh", "TransactionsCommand")
            names = {"BROKER": world.settings.kafka.bootstrap_servers, "TOPIC": world.name, "NUMBER": "0"}
            names["OFFSET"] = "1"
            names["kafka-transactions.sh"] = f"{tmp_path}/kafka-transactions.sh"
            await world.follow("A transaction does not end", names)
            await world.settled(worker=worker)
            assert len(await world.chunks()) == 21
            status, verified, data = await asyncio.to_thread(told)
            assert "behind an open transaction" not in status + verified
            assert data["held_back"] == 0
            with contextlib.suppress(KafkaError):  # it is told that somebody else ended it
                await producer.abort_transaction()

    asyncio.run(scenario())


AHEAD = """
import time
from aiokafka import AIOKafkaProducer

send = AIOKafkaProducer.send

async def ahead(self, topic, value=None, key=None, partition=None, timestamp_ms=None, headers=None):
    return await send(self, topic, value, key, partition, int(time.time() + 3 * 3600) * 1000, headers)

AIOKafkaProducer.send = ahead
"""
"""A change: what a machine sends whose clock is three hours ahead, where brokers refuse more than one."""


def test_a_worker_whose_clock_is_wrong_goes_on(world: World, embedder: OnnxEmbedder) -> None:
    """Claims and dead letters bear the broker's time."""

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(
            [(b"poison", b"no JSON"), *((f"{i}".encode(), {"text": f"Record {i}."}) for i in range(20))]
        )
        worker = world.start_worker(change=AHEAD)
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        assert worker.terminate() == 0

    asyncio.run(scenario())


def test_a_template_for_all_indices_changes_nothing_and_a_pipeline_is_refused(world: World) -> None:
    """What a cluster may have for every new index; and somebody may give ours a pipeline."""

    async def scenario() -> None:
        async with connect(world.settings.elasticsearch) as client:
            await client.ingest.put_pipeline(id=world.name, processors=[])  # the local server has no `drop`
            template = {
                "settings": {"default_pipeline": world.name, "final_pipeline": world.name},
                "mappings": {"_source": {"enabled": False}},
                "aliases": {world.name: {}},
            }
            given: Any = {"name": world.name, "index_patterns": f"{world.name}*", "priority": 1000}
            async with log_reader(world.settings) as reader:
                await reader.create_topic(world.name, 1, {})
            routed = {"mappings": {"_routing": {"required": True}}}
            await client.indices.put_index_template(**given, template=routed)
            done = world.command("index", "create")
            assert (done.returncode, "_routing.required" in done.stderr) == (1, True), done.stderr
            await client.indices.put_index_template(**given, template=template)
            await world.create(partitions=1)
            await world.produce([(b"first", {"text": "Is written."})])
            worker = world.start_worker()
            await world.settled(worker=worker)
            assert len(await world.chunks()) == 1
            await world.produce([(b"first", {"text": "Is written again."})])
            await world.settled(worker=worker)
            assert [row["text"] for row in (await world.chunks()).values()] == ["Is written again."]
            for setting in ("default_pipeline", "final_pipeline"):
                (index,) = await client.indices.get_alias(name=world.name)
                await client.indices.put_settings(index=f"{index}-registry", settings={setting: world.name})
                assert await worker.ended() == 3, worker.log.read_text()[-2000:]
                assert f"index.{setting} of {index}-registry is `{world.name}`" in worker.log.read_text()
                await world.produce([(setting.encode(), {"text": "Is written, too."})])
                done = world.command("index", "verify")
                assert (done.returncode, f'{{"index.{setting}": "_none"}}' in done.stderr) == (3, True), done.stderr
                await client.indices.put_settings(index=f"{index}-registry", settings={setting: "_none"})
                worker = world.start_worker()
                await world.settled(worker=worker)
            assert len(await world.chunks()) == 3
            (index,) = await client.indices.get_alias(name=world.name)
            await client.indices.put_settings(index=index, settings={"default_pipeline": "gone"})
            await world.produce((f"{i}".encode(), {"text": "Is written, and no dead letter."}) for i in range(20))
            assert await worker.ended() in (1, 3), worker.log.read_text()[-2000:]  # by whoever sees it first
            await client.indices.put_settings(index=index, settings={"default_pipeline": "_none"})
            worker = world.start_worker()
            await world.settled(worker=worker)
            assert (len(await world.chunks()), await world.dead_letters()) == (23, [])
            await client.indices.delete_index_template(name=world.name)

    asyncio.run(scenario())


def test_a_log_full_of_holes_is_read_at_once(world: World, embedder: OnnxEmbedder) -> None:
    """A transaction leaves a marker, and one that is aborted its records: that is no reason to read anything again."""

    async def scenario() -> None:
        await world.create(partitions=1)
        producer = AIOKafkaProducer(**connection(world.settings), transactional_id=world.name)
        await producer.start()
        for number in range(120):
            await producer.begin_transaction()
            sent = await producer.send(world.name, b'{"text": "One of many."}', b"doc-%d" % number)
            if number % 3:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
            with contextlib.suppress(KafkaError):
                await sent
        await producer.stop()
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert len(await world.chunks()) == 80
        assert worker.log.read_text().count("seeking back") < 8, "once after a start, perhaps"
        async with log_reader(world.settings) as reader:
            (end,) = (bound.end for bound in (await reader.bounds(world.name, [0])).values())
            await committed_up_to(world, reader, end)  # which is behind a marker, and no record
        assert worker.terminate() == 0
        again = world.start_worker()
        await world.settled(worker=again)
        assert "below the claims" not in again.log.read_text()

    asyncio.run(scenario())


def java_producer(world: World, codec: str) -> None:
    """Publish five records by Kafka's own producer."""
    rows = [f"{codec}-java-{i}" + '|{"text": "' + "Written in Java. " * 9 + '"}' for i in range(5)]
    bootstrap = world.settings.kafka.bootstrap_servers
    options = ["--bootstrap-server", bootstrap, "--topic", world.name, "--compression-codec", codec]
    options += ["--property", "parse.key=true", "--property", "key.separator=|"]
    done = subprocess.run(
        [*java("-XX:TieredStopAtLevel=1"), "org.apache.kafka.tools.ConsoleProducer", *options],
        input="\n".join(rows),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_whatever_producers_send_is_indexed(
    world: World, embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 40 and 41: codecs, transactions, both kinds of timestamps of any size, header keys of any bytes."""
    configs = {"message.timestamp.after.max.ms": str(2**63 - 1), "retention.ms": "-1"}

    async def send(keys: Sequence[str], *, times: Sequence[int | None] = (None,), **options: Any) -> None:
        producer = AIOKafkaProducer(**connection(world.settings), linger_ms=50, **options)
        await producer.start()
        if "transactional_id" in options:
            await producer.begin_transaction()
        sent = []
        for number, key in enumerate(keys):
            headers = [(NotUtf8("x") if "odd" in key else "h", b"1")]
            value = b"bad" if "bad" in key else b'{"text": "Text of %s. %s"}' % (key.encode(), b"More of it. " * 20)
            at = times[number % len(times)]
            sent.append(await producer.send(world.name, value, key.encode(), timestamp_ms=at, headers=headers))
        await asyncio.gather(*sent)
        if "transactional_id" in options:
            await producer.commit_transaction()
        await producer.stop()

    async def append_time() -> None:
        admin = AIOKafkaAdminClient(**connection(world.settings))
        await admin.start()
        changes = {**configs, "message.timestamp.type": "LogAppendTime"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, world.name, configs=changes)])
        await admin.close()

    async def scenario() -> None:
        await world.create(partitions=1, configs=configs)
        for codec in CODECS:
            kind = None if codec == "none" else codec
            await send([f"{codec}-{i}" for i in range(5)], compression_type=kind)
            await send([f"{codec}-idempotent-{i}" for i in range(5)], compression_type=kind, enable_idempotence=True)
            await send(
                [f"{codec}-transaction-{i}" for i in range(5)], compression_type=kind, transactional_id=world.name
            )
        await asyncio.gather(*(asyncio.to_thread(java_producer, world, codec) for codec in CODECS))
        with monkeypatch.context() as patch:
            for module in (accumulator, producer_module):
                patch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
            await send(["before", "odd", "between", "odd bad", "after"], compression_type="zstd")
        for at in TIMES:  # one a batch: what is added to the first timestamp of a batch has its limits in producers
            await send([f"at {at}"], times=[at])
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        again = world.start_worker()  # the last record that is claimed has nanoseconds
        await world.ready(again)
        await append_time()
        await send([f"appended-{i}" for i in range(3)], times=TIMES, compression_type="lz4")
        await world.settled(worker=again)
        world.produced = [record_of(row) for row in await read_topic(world.settings, world.name)]
        assert len(world.produced) == len(CODECS) * 20 + 5 + len(TIMES) + 3
        assert world.produced[-4].timestamp_ms == TIMES[-1]
        await assert_true(world, embedder)
        (letter,) = await world.dead_letters()
        assert (letter.key, letter.headers[0]) == (b"odd bad", ("key \\xff\\xc3(", b"1"))

    asyncio.run(scenario())
