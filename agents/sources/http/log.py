"""The topic, for as long as the server runs: connected again where that was lost, and a new producer where one broke.

An idempotent producer repeats until the broker has a record, in the order in which it was given them: one that was not
acknowledged in time may be there later, and never after a newer one of its document. What it cannot repeat (the broker
refuses it for good) leaves a gap in its numbers, so that it takes nothing more: the next one begins when it has ended.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from agents.clock import Deadline
from agents.kafka.connection import connection, passes, translated
from agents.kafka.reader import LogReader, log_reader
from agents.schemas.form import own_headers
from agents.settings import Settings
from agents.sources import LARGEST_BYTES, Outgoing
from agents.sources.http.admission import LOOK_S, Admission
from agents.sources.http.problems import ProblemError
from agents.sources.publish import size_of
from agents.sources.topic import largest_record, source_topic
from streams.contract import Described
from streams.errors import AwayError, PenstockError

CONNECT_S = 15.0
LOOK_PATIENCE_S = 5.0
RETRY_S = 1.0
END_S = 10.0
"""For a producer that broke, to say so of all that it still has."""
BATCH_BYTES = 128 * 1024
"""Of records of one partition that go together; fewer where the topic takes no batch so large."""
DEFAULT_BATCH_BYTES = 16 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an acknowledged record is."""

    topic: str
    partition: int
    offset: int


class Log:
    """Publishes while `keep` runs."""

    def __init__(self, settings: Settings, admission: Admission, *, partitions: int, publish_s: float) -> None:
        self.settings = settings
        self.admission = admission
        self.reader: LogReader | None = None
        self.topic: Described | None = None
        self.limit = 0
        """Bytes of a record that the topic takes; 0: not known."""
        self._partitions = partitions
        self._publish_s = publish_s
        self._producer: AIOKafkaProducer | None = None
        self._broken = asyncio.Event()
        self._unacknowledged = 0
        self._settled = asyncio.Event()

    async def keep(self) -> None:
        """Until it is cancelled. Raises PenstockError for what waiting does not mend, before it ever worked."""
        while True:
            try:
                async with log_reader(self.settings) as reader:
                    await self._keep_producing(reader)
            except PenstockError as exc:
                if not isinstance(exc, AwayError) and self.topic is None:
                    raise
                if self.admission.away != str(exc):
                    logger.warning("waiting for Kafka", extra={"reason": str(exc)})
                self.admission.away = str(exc)
            finally:
                self.reader = None
            await asyncio.sleep(RETRY_S)

    async def _keep_producing(self, reader: LogReader) -> None:
        while True:
            topic = await source_topic(reader, self.settings, self._partitions)
            assert topic is not None  # noqa: S101 - it was made
            self.topic, self.limit = topic, await largest_record(reader, self.settings)
            self.reader = reader.patient(LOOK_PATIENCE_S)
            self.admission.about(self.reader, topic)
            async with self._producing():
                while not self._broken.is_set() and await self._is_still(topic):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._broken.wait(), LOOK_S)

    async def _is_still(self, topic: Described) -> bool:
        """Looks at the lag; whether the topic is the one that the producer knows."""
        away = self.admission.away
        await self.admission.look()
        if self.admission.away:
            if away is None:
                logger.warning("Kafka does not answer", extra={"reason": self.admission.away})
            return True
        if away:
            logger.info("documents are taken", extra={"topic": self.settings.source.topic})
        try:
            assert self.reader is not None  # noqa: S101 - set by the caller
            return await self.reader.describe(self.settings.source.topic) == topic
        except AwayError:
            return True

    @asynccontextmanager
    async def _producing(self) -> AsyncIterator[None]:
        """A producer, while it is whole. What it has is acknowledged, or said not to be, before the next one begins."""
        largest = min(self.limit or DEFAULT_BATCH_BYTES, BATCH_BYTES)
        producer = AIOKafkaProducer(
            **connection(self.settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            max_request_size=LARGEST_BYTES,
            max_batch_size=largest,
        )
        try:
            with translated(self.settings.kafka.bootstrap_servers):
                async with asyncio.timeout(CONNECT_S):
                    await producer.start()
            self._broken.clear()
            self._producer = producer
            yield
        finally:
            self._producer = None
            await _end(producer)

    async def begin(self, outgoing: Outgoing) -> "asyncio.Future[Any]":
        """Hand over a record that was admitted. Returns before it is acknowledged: see `end`.

        Raises ProblemError where it is not handed over: then it is not there, and will not be.
        """
        try:
            if (producer := self._producer) is None:
                raise ProblemError(503, "Kafka is away: nothing was published", retry_after_s=RETRY_S)
            async with asyncio.timeout(self._publish_s):
                sent: asyncio.Future[Any] = await producer.send(
                    self.settings.source.topic,
                    key=outgoing.key,
                    value=outgoing.value,
                    headers=own_headers(self.settings),
                )
        except (TimeoutError, KafkaError) as exc:
            self.admission.acknowledged()
            if not (isinstance(exc, TimeoutError) or passes(exc)):
                self._broken.set()
            raise ProblemError(503, "Kafka takes nothing now: nothing was published", retry_after_s=RETRY_S) from exc
        except BaseException:
            self.admission.acknowledged()
            raise
        self._unacknowledged += 1
        sent.add_done_callback(self._done)
        return sent

    def _done(self, sent: "asyncio.Future[Any]") -> None:
        self.admission.acknowledged()
        self._unacknowledged -= 1
        if not self._unacknowledged:
            self._settled.set()
        if sent.cancelled() or sent.exception():
            self._broken.set()

    async def end(self, sent: "asyncio.Future[Any]") -> Place:
        """When the broker has it. Raises ProblemError where it has not, or is not known to."""
        try:
            async with asyncio.timeout(self._publish_s):
                found = await asyncio.shield(sent)
        except TimeoutError:
            raise ProblemError(
                503, "Kafka did not acknowledge it in time: it may be published later; send it again", retry_after_s=5
            ) from None
        except MessageSizeTooLargeError as exc:
            raise ProblemError(
                503, "the topic takes smaller records than before: nothing was published; try again", retry_after_s=5
            ) from exc
        except KafkaError as exc:
            logger.warning("a record was not taken", extra={"reason": str(exc) or type(exc).__name__})
            raise ProblemError(503, "Kafka did not take it: send it again", retry_after_s=RETRY_S) from exc
        return Place(topic=self.settings.source.topic, partition=found.partition, offset=found.offset)

    async def publish(self, outgoing: Outgoing) -> Place:
        """Admitted, and acknowledged. Raises ProblemError where it is not, or is not known to be."""
        self.require_small(outgoing)
        await self.admission.take()
        return await self.end(await self.begin(outgoing))

    @property
    def largest(self) -> int:
        """Bytes of a record, at most."""
        return min(self.limit or LARGEST_BYTES, LARGEST_BYTES)

    async def require_room(self) -> None:
        """Before a body is read: raises ProblemError as `Admission.take` would, and takes nothing."""
        await self.admission.require_room()

    def require_small(self, outgoing: Outgoing) -> None:
        """Raises ProblemError (413) for a record that the topic does not take; the producer would not survive it."""
        if size_of(outgoing) > self.largest:
            raise ProblemError(
                413,
                f"{size_of(outgoing)} bytes are more than the topic takes ({self.largest}): divide the document, or "
                "have max.message.bytes of the topic raised",
            )

    async def settled(self, deadline: Deadline) -> bool:
        """Whether all that was handed over was acknowledged, by then."""
        while self._unacknowledged and deadline.left_s:
            self._settled.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), deadline.left_s)
        return not self._unacknowledged


async def _end(producer: AIOKafkaProducer) -> None:
    """Flushed, or, where Kafka is away, cut off: nothing of it may come after what the next one publishes."""
    try:
        async with asyncio.timeout(END_S):
            await producer.stop()
    except KafkaError as exc:
        logger.warning("a producer ended with an error", extra={"reason": str(exc) or type(exc).__name__})
    except TimeoutError:
        sending = producer._sender.sender_task  # it has no public way to give up
        if sending is not None:
            sending.cancel()
            await producer.client.close()
            await asyncio.wait([sending], timeout=END_S)
        producer._message_accumulator.fail_all(KafkaTimeoutError())
