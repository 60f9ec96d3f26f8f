"""Publishing documents: an idempotent producer that waits when the topic's lag passes a limit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

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
            arrived = _Arrived()
            try:
                return await _publish(
                    producer, settings, documents, report, lambda: _lag(reader, settings, count), max_lag, arrived
                )
            except PenstockError as exc:
                await producer.stop()  # what is on its way has arrived then, or never will
                exc.args = (
                    f"{exc}. Before it stopped, {arrived.count} documents were published; to publish them again is "
                    "harmless",
                )
                raise
        finally:
            await producer.stop()


class _Arrived:
    """How many documents the broker acknowledged."""

    count = 0

    def watch(self, sent: "asyncio.Future[object]") -> None:
        """Counts it once it is there."""
        sent.add_done_callback(self._done)

    def _done(self, sent: "asyncio.Future[object]") -> None:
        self.count += not sent.cancelled() and sent.exception() is None


async def _publish(
    producer: AIOKafkaProducer,
    settings: Settings,
    documents: Iterable[Outgoing],
    report: Report,
    lag: Callable[[], Awaitable[int]],
    max_lag: int,
    arrived: _Arrived,
) -> int:
    published = 0
    look_at = 0  # before so many are published, the lag is not above the limit because of us
    pending: list[tuple[Outgoing, asyncio.Future[object]]] = []
    for document in documents:
        if len(pending) >= PENDING:
            published += await _acknowledged(pending, report)
        if not pending and published >= look_at:
            while (behind := await lag()) > max_lag:
                report(0, f"waiting: lag {behind} is above --max-lag {max_lag}")
                await asyncio.sleep(LAG_WAIT_S)
            look_at = published + min(LOOK_EVERY, max_lag - behind + 1)
        try:
            sent = await producer.send(settings.source.topic, key=document.key, value=document.value)
        except MessageSizeTooLargeError as exc:
            raise _too_large(document) from exc
        except KafkaError as exc:
            raise _unpublished(document, exc) from exc
        arrived.watch(sent)
        pending.append((document, sent))
    return published + await _acknowledged(pending, report)


async def _acknowledged(pending: list[tuple[Outgoing, "asyncio.Future[object]"]], report: Report) -> int:
    for document, sent in pending:
        try:
            await sent
        except MessageSizeTooLargeError as exc:
            raise _too_large(document) from exc
        except KafkaError as exc:
            raise _unpublished(document, exc) from exc
        report(1, "publishing")
    done = len(pending)
    pending.clear()
    return done


def _unpublished(document: Outgoing, exc: KafkaError) -> PenstockError:
    return PenstockError(f"{document.origin} could not be published: {type(exc).__name__}: {exc}")


def _too_large(document: Outgoing) -> PenstockError:
    size = len(document.value or b"")
    return PenstockError(
        f"{document.origin}: {size} bytes are more than the broker takes: raise max.message.bytes of the topic, "
        "or divide the document"
    )


async def _lag(reader: LogReader, settings: Settings, count: int) -> int:
    rows = await partition_rows(reader, settings, count, None)
    return sum(row["lag"] for row in rows)
