"""Batches of records onto a topic, byte by byte: what a client library would not let through goes over the wire too."""

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from agents.kafka.connection import connection
from agents.settings import Settings
from streams.record import Record
from tests.kit.records import CODECS, Baked, Batch, bake, partition_of

ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip_encode,
    "snappy": snappy_encode,
    "lz4": lz4_encode,
    "zstd": zstd_encode,
}
MOST_BYTES = 64 * 1024**2


class Wire:
    """Sends to one topic; the same key always to the same partition. An async context."""

    def __init__(self, settings: Settings, topic: str, partitions: int) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._plain = AIOKafkaProducer(**connection(settings))
        self._transactional: dict[str, AIOKafkaProducer] = {}

    async def __aenter__(self) -> Self:
        await self._plain.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        for producer in (self._plain, *self._transactional.values()):
            await producer.stop()

    async def send(self, batch: Batch) -> list[tuple[Record, Baked]]:
        """One batch a partition. Returns what is in the log for good: of an aborted transaction nothing."""
        parts: dict[int, list[Baked]] = defaultdict(list)
        for recipe in batch.recipes:
            baked = bake(recipe)
            parts[partition_of(baked.key, self._partitions)].append(baked)
        if batch.sequel:
            return await self._transact(batch, parts)
        made: list[tuple[Record, Baked]] = []
        for partition, records in parts.items():
            base = await self._produce(partition, batch_bytes(records, batch.codec))
            made += self._placed(partition, base, records)
        return made

    def _placed(self, partition: int, base: int, records: Sequence[Baked]) -> list[tuple[Record, Baked]]:
        return [(record_of(self._topic, partition, base + n, baked), baked) for n, baked in enumerate(records)]

    async def _produce(self, partition: int, raw: bytes) -> int:
        """Offset of the first one."""
        await self._plain.partitions_for(self._topic)
        client = self._plain.client
        leader = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=30_000, topics=[(self._topic, [(partition, raw)])]
        )
        answer = await client.send(leader, request)
        ((_, ((_, error, offset, *_),)),) = answer.topics
        assert not error, f"the broker refused a batch: error {error}"
        return int(offset)

    async def _transact(self, batch: Batch, parts: Mapping[int, Sequence[Baked]]) -> list[tuple[Record, Baked]]:
        if batch.codec not in self._transactional:
            self._transactional[batch.codec] = producer = AIOKafkaProducer(
                **connection(self._settings),
                transactional_id=f"{self._topic}-{CODECS.index(batch.codec)}",
                compression_type=None if batch.codec == "none" else batch.codec,
                max_request_size=MOST_BYTES,
                max_batch_size=MOST_BYTES,
            )
            await producer.start()
        producer = self._transactional[batch.codec]
        await producer.begin_transaction()
        sent = []
        for partition, records in parts.items():
            builder = producer.create_batch()
            for baked in records:
                headers = [(name.decode(), value) for name, value in baked.headers]
                kept = builder.append(key=baked.key, value=baked.value, timestamp=baked.timestamp_ms, headers=headers)
                assert kept is not None
            sent.append((partition, records, await producer.send_batch(builder, self._topic, partition=partition)))
        made: list[tuple[Record, Baked]] = []
        for partition, records, future in sent:
            made += self._placed(partition, (await future).offset, records)
        if batch.sequel == "commit":
            await producer.commit_transaction()
            return made
        await producer.abort_transaction()
        return []


def record_of(topic: str, partition: int, offset: int, baked: Baked) -> Record:
    """As the oracle needs it, without headers."""
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=baked.timestamp_ms,
        key=baked.key,
        value=baked.value,
    )


def batch_bytes(records: Sequence[Baked], codec: str) -> bytes:
    """A record batch of format 2 (kafka.apache.org/documentation/#recordbatch), offsets from 0."""
    first = records[0].timestamp_ms
    body = bytearray()
    for number, baked in enumerate(records):
        content = bytearray(b"\0")
        content += _varint(_int64(baked.timestamp_ms - first)) + _varint(number)
        content += _field(baked.key) + _field(baked.value) + _varint(len(baked.headers))
        for name, value in baked.headers:
            content += _field(name) + _field(value)
        body += _varint(len(content)) + content
    newest = max(baked.timestamp_ms for baked in records)
    fixed = struct.pack(">hiqqqhii", CODECS.index(codec), len(records) - 1, first, newest, -1, -1, -1, len(records))
    checked = fixed + ENCODERS[codec](bytes(body))
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, calc_crc32c(checked)) + checked


def _field(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _int64(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _varint(value: int) -> bytes:
    """Signed, zigzag."""
    rest = (value << 1) ^ (value >> 63)
    made = bytearray()
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)
