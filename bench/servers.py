"""The broker and the Elasticsearch that all rows share, and names of a row's own on them."""

import asyncio
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from pydantic import AnyHttpUrl

from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION, stack
from agents.local.servers import free_port
from agents.settings import Settings
from agents.settings.environment import cache_dir
from agents.settings.loading import load_settings
from agents.sources import Outgoing

BATCH_BYTES = 256 * 1024


@contextmanager
def servers(folder: Path) -> Iterator[Settings]:
    """Settings for servers that run while the context does."""
    base = load_settings()
    settings = base.model_copy(
        update={
            "kafka": base.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"}),
            "elasticsearch": base.elasticsearch.model_copy(
                update={"url": AnyHttpUrl(f"http://127.0.0.1:{free_port()}"), "replicas": 0}
            ),
        }
    )
    options = stack.StackOptions(
        folder=folder,
        cache=cache_dir(),
        kafka_port=int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
        elasticsearch_port=settings.elasticsearch.url.port or 0,
        kafka_version=KAFKA_VERSION,
        elasticsearch_version=ELASTICSEARCH_VERSION,
    )
    stack.wipe(folder)
    try:
        stack.up(options, lambda *_: None)
        yield settings
    finally:
        stack.wipe(folder)


async def fill(settings: Settings, documents: Iterable[Outgoing], partitions: int) -> None:
    """Publish all, however far behind the workers are. In batches made here: a million take half a minute less."""
    topic = settings.source.topic
    async with log_reader(settings) as reader:
        await reader.create_topic(topic, partitions, {})
    producer = AIOKafkaProducer(**connection(settings), acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    sent: list[Any] = []
    open_batches = {number: producer.create_batch() for number in range(partitions)}
    try:
        for document in documents:
            number = zlib.crc32(document.key) % partitions
            if open_batches[number].append(key=document.key, value=document.value, timestamp=None) is None:
                sent.append(await producer.send_batch(open_batches[number], topic, partition=number))
                open_batches[number] = producer.create_batch()
                open_batches[number].append(key=document.key, value=document.value, timestamp=None)
        for number, batch in open_batches.items():
            if batch.record_count():
                sent.append(await producer.send_batch(batch, topic, partition=number))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def cpu_s(folder: Path) -> dict[str, float]:
    """CPU seconds that the servers in this folder have taken so far."""
    found = {}
    for server in stack.status(folder):
        leader = psutil.Process(server.pid)
        times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
        found[server.name] = sum(time.user + time.system for time in times)
    return found


def named(settings: Settings, topic: str, group: str | None = None, model: str | None = None) -> Settings:
    """The same servers, with a topic, a group and an alias of a row's own."""
    return settings.model_copy(
        update={
            "source": settings.source.model_copy(update={"topic": topic, "group": group or topic}),
            "elasticsearch": settings.elasticsearch.model_copy(update={"alias": group or topic}),
            "admin": settings.admin.model_copy(update={"port": free_port()}),
            "model": settings.model.model_copy(update={"name": model} if model else {}),
        }
    )


def environment_of(settings: Settings, more: Mapping[str, str]) -> dict[str, str]:
    """Of a process of Penstock's with these settings. `more`: others, as variables without their prefix."""
    variables = {
        "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "SOURCE__TOPIC": settings.source.topic,
        "SOURCE__GROUP": settings.source.group,
        "MODEL__NAME": settings.model.name,
        "ELASTICSEARCH__URL": str(settings.elasticsearch.url),
        "ELASTICSEARCH__ALIAS": settings.elasticsearch.alias,
        "ADMIN__PORT": str(settings.admin.port),
        **more,
    }
    return {**os.environ, **{f"PENSTOCK_{name}": value for name, value in variables.items()}}
