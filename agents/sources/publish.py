"""Publishing documents: an idempotent producer that waits when the topic's lag passes a limit."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.kafka.connection import connection, translated
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from agents.sources import LARGEST_BYTES, Outgoing
from streams.errors import PenstockError

PENDING = 500
"""Documents that are on their way before the first of them has to be acknowledged."""
LOOK_EVERY = 10_000
"""Documents between two looks at the lag, at most: others may publish too."""
LAG_WAIT_S = 1.0

Report = Callable[[int, str], None]
"""Called with documents published since the last call, and what is going on."""


async def publish(
    settings: Settings, documents: Iterable[Outgoing], *, max_lag: int, partitions: int, report: Report
) -> int:
    """Publish all; makes the topic when it is missing. Returns the number of acknowledged documents.

    Waits while the topic's lag is above `max_lag`. Raises PenstockError naming the document at fault, and how many were
    published; publishing all again is harmless.
    """
    servers = settings.kafka.bootstrap_servers
    async with log_reader(settings) as reader:
        if await reader.partitions(settings.source.topic) is None:
            await reader.create_topic(settings.source.topic, partitions, {})
        count = await reader.require_partitions(settings.source.topic)
        producer = AIOKafkaProducer(
            **connection(settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=20,
            max_request_size=LARGEST_BYTES,
        )
        try:
            with translated(servers):
                await producer.start()
            delivery = _Delivery(producer, settings.source.topic, report)
            try:
                await _publish(delivery, documents, report, lambda: _lag(reader, settings, count), max_lag)
            except PenstockError as exc:
                await producer.stop()  # what is on its way has arrived then, or never will
                exc.args = (
                    f"{exc}. Before it stopped, {delivery.published} documents were published; to publish them again "
                    "is harmless",
                )
                raise
            return delivery.published
        finally:
            await producer.stop()


class _Delivery:
    """Documents on their way to the broker, which acknowledges them in any order."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, report: Report) -> None:
        self._producer = producer
        self._topic = topic
        self._report = report
        self._pending: deque[tuple[Outgoing, asyncio.Future[object]]] = deque()
        self._acknowledged = 0

    @property
    def published(self) -> int:
        """How many the broker has acknowledged."""
        return self._acknowledged + sum(
            sent.done() and not sent.cancelled() and sent.exception() is None for _, sent in self._pending
        )

    @property
    def full(self) -> bool:
        """Whether those on their way have to arrive before there are more."""
        return len(self._pending) >= PENDING

    @property
    def idle(self) -> bool:
        """Whether none is on its way."""
        return not self._pending

    async def send(self, document: Outgoing) -> None:
        """Raises PenstockError naming it where the client refuses it."""
        with _naming(document):
            sent = await self._producer.send(self._topic, key=document.key, value=document.value)
        self._pending.append((document, sent))

    async def arrived(self) -> None:
        """Wait until all of them are acknowledged. Raises PenstockError naming one that the broker refused."""
        while self._pending:
            document, sent = self._pending.popleft()
            with _naming(document):
                await sent
            self._acknowledged += 1
            self._report(1, "publishing")


async def _publish(
    delivery: _Delivery,
    documents: Iterable[Outgoing],
    report: Report,
    lag: Callable[[], Awaitable[int]],
    max_lag: int,
) -> None:
    look_at = 0  # before so many are published, the lag is not above the limit because of us
    for document in documents:
        if delivery.full:
            await delivery.arrived()
        if delivery.idle and delivery.published >= look_at:
            while (behind := await lag()) > max_lag:
                report(0, f"waiting: lag {behind} is above --max-lag {max_lag}")
                await asyncio.sleep(LAG_WAIT_S)
            look_at = delivery.published + min(LOOK_EVERY, max_lag - behind + 1)
        await delivery.send(document)
    await delivery.arrived()


@contextmanager
def _naming(document: Outgoing) -> Iterator[None]:
    """What goes wrong is about this document."""
    try:
        yield
    except MessageSizeTooLargeError as exc:
        raise _too_large(document) from exc
    except KafkaError as exc:
        raise PenstockError(f"{document.origin} could not be published: {type(exc).__name__}: {exc}") from exc


def _too_large(document: Outgoing) -> PenstockError:
    size = len(document.value or b"")
    return PenstockError(
        f"{document.origin}: {size} bytes are more than the broker takes: raise max.message.bytes of the topic, "
        "or divide the document"
    )


async def _lag(reader: LogReader, settings: Settings, count: int) -> int:
    rows = await partition_rows(reader, settings, count, None)
    return sum(row["lag"] for row in rows)
