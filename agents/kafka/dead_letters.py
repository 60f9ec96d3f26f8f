"""Records that cannot be processed: to the dead-letter topic, raw, with Kafka Connect's headers."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.kafka.connection import ACL, REFUSALS, connection
from agents.kafka.reader import LogReader
from agents.metrics import Metrics
from agents.settings import Settings
from streams.dead_letter import Headers, Home, headers_of, pointer_to, pointer_to_all
from streams.errors import PenstockError
from streams.record import Rejected

WRITE_TIMEOUT_S = 60.0
MAX_REQUEST_BYTES = 16 * 1024**2  # the producer's own default of 1 MiB would refuse what the source topic took

LEAST_BYTES = 4096
"""Of `max.message.bytes`: what a claim, or a dead letter that is a pointer to its record, may take."""

BROKERS_TIME = {"message.timestamp.type": "LogAppendTime"}
"""Brokers refuse a record whose time is more than an hour ahead: no claim or letter depends on a worker's clock."""
DEAD_LETTER_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "max.message.bytes": str(16 * 1024**2),
    **BROKERS_TIME,
}

Form = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a dead letter."""

logger = logging.getLogger(__name__)


async def make_dead_letter_topic(reader: LogReader, settings: Settings) -> bool:
    """Whether it was missing, and is made."""
    if await reader.partitions(settings.dead_letter_topic) is not None:
        return False
    await reader.create_topic(settings.dead_letter_topic, 1, DEAD_LETTER_CONFIG)
    return True


def not_taken(topic: str, what: str, so: str, exc: Exception) -> PenstockError:
    """Why the dead-letter topic did not take a letter, what follows, and what to look at."""
    reason = str(exc) or type(exc).__name__  # an error of Kafka's has its name in its text
    look = "check it: it must not be compacted"
    if isinstance(exc, MessageSizeTooLargeError):
        look = f"its max.message.bytes must be {LEAST_BYTES} at least"
    elif isinstance(exc, REFUSALS):
        look = f"give the login {ACL}"
    return PenstockError(f"the dead-letter topic {topic} did not take {what} ({reason}): {so}; {look}")


class DeadLetterTopic:
    """`DeadLetters` on Kafka, for what is rejected here. Start it before use, stop it after."""

    def __init__(self, settings: Settings, home: Home, metrics: Metrics) -> None:
        self._home = home
        self._topic = settings.dead_letter_topic
        self._metrics = metrics
        self._producer = AIOKafkaProducer(
            **connection(settings),
            acks="all",  # not idempotent: a record that is too large would leave a gap in its sequence numbers
            max_request_size=MAX_REQUEST_BYTES,
        )

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and close."""
        await self._producer.stop()

    async def send(self, rejected: Rejected, *, attempt: int, epoch: int) -> None:
        """Returns when the broker has it, or a pointer to it where the topic does not take its size:
        without its value, or without its key and its headers as well.

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
        headers = [*record.headers, *headers_of(rejected, home=self._home, attempt=attempt, epoch=epoch)]
        forms: list[Callable[[], Form]] = [
            lambda: (record.key, record.value, headers),
            lambda: (record.key, None, [*headers, *pointer_to(record)]),
            lambda: (None, None, pointer_to_all(rejected, home=self._home, attempt=attempt, epoch=epoch)),
        ]
        try:
            await self._write_first(forms)
        except (KafkaError, TimeoutError) as exc:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise not_taken(self._topic, place, "it stays unacknowledged", exc) from exc
        self._metrics.dead_letters.labels(rejected.stage).inc()

    async def _write_first(self, forms: Sequence[Callable[[], Form]]) -> None:
        """The first of them that the topic takes. Raises MessageSizeTooLargeError when it takes none."""
        for number, form in enumerate(forms, 1):
            try:
                await self._write(*form())
            except MessageSizeTooLargeError:
                if number == len(forms):
                    raise
            else:
                return

    async def _write(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        if key is None and value is None:
            sent = self._write_neither(headers)
        else:
            sent = self._producer.send_and_wait(self._topic, key=key, value=value, headers=headers)
        await asyncio.wait_for(sent, WRITE_TIMEOUT_S)

    async def _write_neither(self, headers: Headers) -> None:
        """Without key and value, as the source topic takes it too; aiokafka does so only in a batch."""
        batch = self._producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=headers)
        await (await self._producer.send_batch(batch, self._topic, partition=0))
