"""The real ports keep what is said of them, on both majors; those in memory: `tests.streams.test_ports`."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import faust
from aiokafka import AIOKafkaProducer

from agents.elastic.bulk import ElasticStore
from agents.elastic.chunks import ChunkIndex
from agents.elastic.client import connect
from agents.elastic.entries import Registry
from agents.elastic.index import Index
from agents.elastic.requests import Requests
from agents.fail_points import FailPoints
from agents.indexing.preflight import CHANGELOG_CONFIG
from agents.kafka.claims import ClaimTable, claim_key
from agents.kafka.connection import connection
from agents.kafka.dead_letters import DeadLetterTopic
from agents.kafka.reader import log_reader, record_of
from agents.metrics import Metrics
from agents.settings import CLAIMS_TABLE
from streams.dead_letter import Home, read_letter
from streams.epochs import Epochs
from streams.plan import FieldNames
from streams.record import Record
from tests.kit import ports
from tests.kit.harness import Servers, World, read_topic, world_on

MODEL_SPEED = "fast"


async def send(producer: AIOKafkaProducer, topic: str, *offsets: int) -> None:
    for one in map(ports.record, offsets):
        await producer.send_and_wait(topic, key=one.key, value=one.value, partition=0, timestamp_ms=one.timestamp_ms)


def test_log(world: World) -> None:
    """Records of transactions: the markers, and one that was aborted, are holes."""

    async def scenario() -> None:
        topic = world.name
        async with (
            log_reader(world.settings) as reader,
            AIOKafkaProducer(**connection(world.settings), transactional_id=topic) as producer,
        ):
            await reader.create_topic(topic, 1, {})
            async with producer.transaction():
                await send(producer, topic, 0, 1)
            await producer.begin_transaction()
            await send(producer, topic, 3, 4)
            await producer.abort_transaction()
            async with producer.transaction():
                await send(producer, topic, 6, 7)
            await reader.delete_before(topic, {0: ports.BEGIN})
            await producer.begin_transaction()
            await send(producer, topic, *range(ports.END, ports.END + ports.HELD_BACK))
            await ports.holds_for_log(reader, topic)
            await producer.abort_transaction()

    asyncio.run(scenario())


def test_claims(world: World) -> None:
    async def scenario() -> None:
        settings, topic = world.settings, world.settings.changelog_topic
        app = faust.App(world.name, broker=f"kafka://{settings.kafka.bootstrap_servers}", store="memory://")
        table = app.Table(CLAIMS_TABLE, key_type=bytes, value_type=bytes, partitions=2)
        async with log_reader(settings) as reader:
            await reader.create_topic(topic, 2, CHANGELOG_CONFIG)

            async def next_owner() -> ClaimTable:
                """The changelog's last records are what Faust recovers."""
                rows = {claim_key(number): record.value for number, record in (await reader.last(topic)).items()}
                return ClaimTable(SimpleNamespace(get=rows.get))

            await app.producer.start()
            try:
                await ports.holds_for_claims(ClaimTable(table), next_owner)
            finally:
                await app.producer.stop()

    asyncio.run(scenario())


def test_dead_letters(world: World) -> None:
    async def scenario() -> None:
        settings, home = world.settings, Home(group="g", index="i", log="c/t", epochs=Epochs())
        letters = DeadLetterTopic(settings, home, Metrics())

        async def sent() -> list[tuple[Record, str, int, int]]:
            rows = [record_of(row) for row in await read_topic(settings, settings.dead_letter_topic)]
            found = [read_letter(row.key, row.value, row.headers, row.timestamp_ms) for row in rows]
            return [(one.record, one.error, one.attempt, one.epoch) for one in found]

        async with log_reader(settings) as reader:
            await reader.create_topic(settings.dead_letter_topic, 1, {})
        await letters.start()
        try:
            await ports.holds_for_letters(letters, sent)
        finally:
            await letters.stop()

    asyncio.run(scenario())


def test_entries_and_chunks(either: Servers, model_folder: Path, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        metrics, points, names = Metrics(), FailPoints(), FieldNames()
        await world.create()
        async with connect(world.settings.elasticsearch) as client:
            index = Index(client, world.settings)
            identity = await index.identity(await index.generation())
            store = ElasticStore(client, Requests(world.settings.delivery, metrics), metrics, points)
            await ports.holds_for_entries(Registry(store, identity.registry_alias))
            alias = identity.write_alias
            chunks = ChunkIndex(store, metrics, points, write_alias=alias)
            await ports.holds_for_chunks(chunks, names)

    with world_on(either, model_folder, tmp_path) as world:
        asyncio.run(scenario(world))
