"""Records that cannot be processed: to the dead-letter topic, raw, with Kafka Connect's headers."""

import asyncio
import hashlib
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.metrics import Metrics
from agents.settings import Settings
from streams.errors import PenstockError
from streams.record import Record, Rejected

WRITE_TIMEOUT_S = 60.0
MAX_REQUEST_BYTES = 16 * 1024**2  # the producer's own default of 1 MiB would refuse what the source topic took

logger = logging.getLogger(__name__)


class DeadLetters:
    """The dead-letter topic. Start it before use, stop it after."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._topic = settings.dead_letter_topic
        self._metrics = metrics
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_REQUEST_BYTES,
        )

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and close."""
        await self._producer.stop()

    async def send(self, rejected: Rejected) -> None:
        """Returns when the broker has it, or a pointer to it where the topic does not take its size.

        It may be there twice after a crash, with the same coordinates. Raises PenstockError after a minute: the
        source record is not acked then, a restart tries again.
        """
        record = rejected.record
        logger.warning(
            "record dead-lettered",
            extra={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "stage": rejected.stage,
                "error": rejected.error,
                # Elasticsearch's own reasons quote the text; they are in the dead letter only
                "reason": "see the dead letter" if rejected.stage == "index" else rejected.message,
            },
        )
        headers = [*record.headers, *connect_headers(rejected, self._settings.source.group)]
        try:
            try:
                await self._write(record.key, record.value, headers)
            except MessageSizeTooLargeError:  # its place and its hash, then
                await self._write(record.key, None, [*headers, *_pointer(record)])
        except (KafkaError, TimeoutError) as exc:
            raise PenstockError(
                f"the dead-letter topic {self._topic} did not take {record.topic}/{record.partition}@{record.offset} "
                f"({type(exc).__name__}): it stays unacknowledged; check that topic"
            ) from exc
        self._metrics.dead_letters.labels(rejected.stage).inc()

    async def _write(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        sent = self._producer.send_and_wait(self._topic, key=key, value=value, headers=headers)
        await asyncio.wait_for(sent, WRITE_TIMEOUT_S)


def _pointer(record: Record) -> list[tuple[str, bytes]]:
    """In place of a value that the dead-letter topic does not take; it is still where the other headers say."""
    value = record.value or b""
    return [
        ("penstock.value.sha256", hashlib.sha256(value).hexdigest().encode()),
        ("penstock.value.bytes", str(len(value)).encode()),
    ]


def connect_headers(rejected: Rejected, group: str) -> list[tuple[str, bytes]]:
    """Headers as Kafka Connect's error reporter writes them (KIP-298), and the number of attempts."""
    record: Record = rejected.record
    prefix = "__connect.errors."
    values = {
        prefix + "topic": record.topic,
        prefix + "partition": str(record.partition),
        prefix + "offset": str(record.offset),
        prefix + "connector.name": group,
        prefix + "task.id": str(record.partition),
        prefix + "stage": rejected.stage,
        prefix + "class.name": f"streams.{rejected.stage}",
        prefix + "exception.class.name": rejected.error,
        prefix + "exception.message": rejected.message,
        prefix + "exception.stacktrace": f"{rejected.error}: {rejected.message}",
        "penstock.attempt": "1",
    }
    return [(name, value.encode()) for name, value in values.items()]
