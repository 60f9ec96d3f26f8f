"""Records, and what is remembered of them, in transactions: both are there, or neither; and never above a lag.

Whoever publishes for the same source later puts an end to what the one before it began: its open transaction is
aborted, and its next one is refused (Kafka's fencing by transactional id).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)

from agents.kafka.connection import REFUSALS, connection, passes, translated
from agents.kafka.dead_letters import make_dead_letter_topic, not_taken
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader
from agents.schemas.form import own_headers
from agents.settings import Settings
from agents.sources import LARGEST_BYTES, Outgoing
from agents.sources.state import Published, Row, State
from agents.stopping import cancellable, cut_off, end_if_asked
from streams.dead_letter import Failed, headers_of_object
from streams.errors import AwayError, PenstockError

FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState)
"""What the broker says of the transactions of whoever is not the last to have begun with them."""
MANY = 500
"""Records of a transaction, at most."""
COMMIT_S = 60.0
ABORT_S = 10.0
"""For the answer to an abort, before the transaction is left to whoever publishes next: it is aborted then."""
STOP_S = 10.0
"""That a stop waits for the broker: for the transaction that is open, and again for the producer's end."""
LOOK_EVERY = 10_000
"""Offsets between two looks at the lag, at most: others may publish too."""
LAG_WAIT_S = 1.0
OVERHEAD_BYTES = 200
"""Of a record and the batch that it is in, at most, without headers."""
HEADER_BYTES = 10
"""Of a header, at most, beside its name and value."""

Wait = Callable[[str], None]
"""Called with what is waited for, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A record to publish, and whose document it is; `published` is None for a tombstone."""

    outgoing: Outgoing
    published: Published | None

    def row(self, state: State, partition: int, offset: int) -> Row:
        """To write with the record, which is there."""
        doc = self.outgoing.key.decode()
        if self.published is None:
            return state.deleted_row(doc)
        return state.document_row(doc, replace(self.published, partition=partition, offset=offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A record of a stream to publish: how far that was read is remembered, and nothing of the document."""

    outgoing: Outgoing

    def row(self, state: State, partition: int, offset: int) -> Row | None:
        """None: the stream has rows of its own."""
        return None


class Transactions(Protocol):
    """Where changes go. `many`: of them at once, at most."""

    many: int

    async def publish(
        self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed] = ()
    ) -> None:
        """All of it, or nothing; then the state knows. Raises PenstockError where it cannot be.

        Of what `failed` its row, and a dead letter.
        """


class Publisher:
    """`Transactions` on Kafka, of one source."""

    def __init__(
        self,
        settings: Settings,
        reader: LogReader,
        producer: AIOKafkaProducer,
        state: State,
        partitions: int,
        max_lag: int,
        wait: Wait,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._producer = producer
        self._state = state
        self._partitions = partitions
        self._max_lag = max_lag
        self._wait = wait
        self._sent = self._look_at = 0  # offsets; before so many, the lag is not above the limit because of us
        self.many = max(1, min(MANY, max_lag // 20))  # markers of transactions count, too

    async def publish(
        self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed] = ()
    ) -> None:
        """Records, their rows, and rows of objects; letters about what failed, and their rows. Waits for the lag.

        Whoever stops it waits for the transaction that is open: it is committed, or not, and that is known; but for
        STOP_S at most, while the broker does not answer. Then whoever publishes next knows.
        Raises PenstockError when the broker does not take it, or somebody else has begun to publish for this source;
        AwayError when the broker may take it later.
        """
        end_if_asked()  # by what a source's own client has lost
        await self._room()
        if failed:
            await make_dead_letter_topic(self._reader, self._settings)
        work = asyncio.create_task(self._transaction(changes, rows, failed))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work], timeout=STOP_S)
            await cut_off(work)
            raise

    async def _transaction(
        self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed]
    ) -> None:
        try:
            async with (
                asyncio.timeout(COMMIT_S + ABORT_S),
                asyncio.timeout(COMMIT_S),  # which ends in the answer to an abort
                self._producer.transaction(),
            ):
                await self._letters(failed)
                written = [*await self._records(changes), *rows, *map(self._state.failures.row, failed)]
                topic = self._settings.sources_topic
                sent = [await self._producer.send(topic, key=key, value=value) for key, value in written]
                await asyncio.gather(*sent)
        except MessageSizeTooLargeError as exc:
            largest = max((change.outgoing for change in changes), key=size_of, default=None)
            what = f"{largest.origin} ({size_of(largest)} bytes)" if largest else "what is remembered of an object"
            raise PenstockError(
                f"the broker takes none so large as {what}: raise max.message.bytes of {self._settings.source.topic} "
                f"and {self._settings.sources_topic}, or divide the document"
            ) from exc
        except (KafkaError, TimeoutError) as exc:
            if _is_fenced(exc):
                raise PenstockError(
                    "somebody else has begun to ingest the same source, and goes on; or replicas are not in sync, and "
                    "the broker gave this transaction up. Nothing is lost or there twice: run it again if it is alone"
                ) from exc
            kind = AwayError if isinstance(exc, TimeoutError) or passes(exc) else PenstockError
            raise kind(
                f"Kafka at {self._settings.kafka.bootstrap_servers} did not take the documents "
                f"({str(exc) or type(exc).__name__}): run it again, it goes on where it was"
            ) from exc
        self._state.take(written)

    async def _records(self, changes: Sequence[Change | Passed]) -> list[Row]:
        """Sent, and acknowledged; the rows, with their places."""
        sent = [await self._send(change.outgoing) for change in changes]
        places = await asyncio.gather(*sent)
        self._sent += len(places) + len({place.partition for place in places})  # and a marker on each partition
        rows = (change.row(self._state, at.partition, at.offset) for change, at in zip(changes, places, strict=True))
        return [row for row in rows if row]

    async def _letters(self, failed: Sequence[Failed]) -> None:
        """Sent, and acknowledged."""
        settings = self._settings
        about = {"topic": settings.source.topic, "group": settings.source.group, "log": self._state.log}
        try:
            sent = [
                await self._producer.send(
                    settings.dead_letter_topic, key=one.object.encode(), headers=headers_of_object(one, **about)
                )
                for one in failed
            ]
            await asyncio.gather(*sent)
        except (MessageSizeTooLargeError, *REFUSALS) as exc:
            raise not_taken(
                settings.dead_letter_topic, "the letters of what failed", "run it again, it goes on where it was", exc
            ) from exc

    async def _send(self, outgoing: Outgoing) -> "asyncio.Future[Any]":
        topic, headers = self._settings.source.topic, [*outgoing.headers, *own_headers(self._settings)]
        future: asyncio.Future[Any] = await self._producer.send(
            topic, key=outgoing.key, value=outgoing.value, headers=headers
        )
        return future

    async def _room(self) -> None:
        """Returns when the lag is not above the limit."""
        if self._sent < self._look_at:
            return
        while (behind := await self._lag()) > self._max_lag:
            self._wait(f"waiting for the workers: lag {behind} is above --max-lag {self._max_lag}{await self._why()}")
            await asyncio.sleep(LAG_WAIT_S)
        self._look_at = self._sent + min(LOOK_EVERY, self._max_lag - behind + 1)

    async def _lag(self) -> int:
        return sum(row["lag"] for row in await partition_rows(self._reader, self._settings, self._partitions, None))

    async def _why(self) -> str:
        try:
            if await self._reader.group_members(self._settings.source.group):
                return ""
        except PenstockError:  # a login that may not ask
            return ""
        return f"; no worker of the group {self._settings.source.group} is there: start one with `penstock worker`"


def size_of(outgoing: Outgoing) -> int:
    """Bytes that a record takes at most, uncompressed."""
    headers = sum(len(name) + len(value) + HEADER_BYTES for name, value in outgoing.headers)
    return len(outgoing.key) + len(outgoing.value or b"") + headers + OVERHEAD_BYTES


@asynccontextmanager
async def publisher(
    settings: Settings, reader: LogReader, state: State, source: str, partitions: int, max_lag: int, wait: Wait
) -> AsyncIterator[Publisher]:
    """Connected: whoever published for this source is fenced off, and what was left open of it aborted.

    Raises PenstockError when the broker is away. Ends within some seconds of STOP_S, whether it answers or not.
    """
    name = hashlib.sha256(f"{settings.source.topic}\0{source}".encode()).hexdigest()[:16]
    producer = AIOKafkaProducer(
        **connection(settings),
        acks="all",
        transactional_id=f"penstock-ingest-{name}",
        linger_ms=5,
        max_request_size=LARGEST_BYTES,
    )
    try:
        with translated(settings.kafka.bootstrap_servers):
            async with asyncio.timeout(COMMIT_S):
                await cancellable(producer.start)
        yield Publisher(settings, reader, producer, state, partitions, max_lag, wait)
    finally:
        await _stop(producer)


def _is_fenced(exc: BaseException | None) -> bool:
    """Itself, or what it is raised from: aiokafka hides some in an error that says nothing."""
    while exc is not None and not isinstance(exc, FENCED):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


async def _stop(producer: AIOKafkaProducer) -> None:
    """In order while the broker answers; else what aiokafka would wait for without end is cancelled."""
    stopping = asyncio.create_task(producer.stop())
    await asyncio.wait([stopping], timeout=STOP_S)
    if not stopping.done() and producer._sender.sender_task:
        await cut_off(producer._sender.sender_task)
        accumulated = producer._message_accumulator
        for batch in (*chain.from_iterable(accumulated._batches.values()), *accumulated._pending_batches):
            batch.future.cancel()
        if producer._txn_manager._transaction_waiter:
            producer._txn_manager._transaction_waiter.cancel()
        await asyncio.wait([stopping], timeout=STOP_S)
    await cut_off(stopping)
