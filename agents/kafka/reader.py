"""Group-less access to the cluster: log bounds, single records, topics. Never touches the consumer group."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from functools import partial
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from agents.clock import Deadline
from agents.kafka.batches import read_as_it_is
from agents.kafka.bootstrap import ask
from agents.kafka.connection import connection, passes, tls, translated, unreachable
from agents.kafka.topic_id import UNKNOWN_TOPIC, TopicRequest, described
from agents.settings import Settings
from agents.stopping import cancellable
from streams.contract import Described
from streams.errors import AwayError, ConfigError, PenstockError
from streams.ports import Bounds, Next, Page
from streams.record import Record

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_MS = 40_000
"""Of the client, for offsets; whoever waits gives up before."""
RETRY_EVERY_S = 0.2
FETCH_WAIT_MS = 20
PAGE_BYTES = 1024**2


def silent(topic: str, partition: int, offset: int, seconds: float) -> AwayError:
    """Of a broker that takes connections, and answers with no record where there is one."""
    return AwayError(
        f"Kafka gave nothing of {topic}/{partition} at offset {offset} for {seconds:.0f} s: it is slow or away, or "
        "holds this login's clients up by a quota (consumer_byte_rate)"
    )


def record_of(row: Any) -> Record:
    """A record as a consumer of aiokafka gives it."""
    return Record(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        timestamp_ms=row.timestamp,
        key=row.key,
        value=row.value,
        headers=tuple(row.headers),
    )


class LogReader:
    """`Log` on a cluster, and what tools do with topics. One caller at a time: the consumer's position is shared.

    Between reads its partitions are paused, and its fetches are short: the broker answers one connection's requests
    in turn, and whoever asks for offsets would wait for a fetch at the log's end first.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        servers: str,
        patience_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._servers = servers
        self._patience_s = patience_s
        self._lock = asyncio.Lock()

    def patient(self, seconds: float) -> Self:
        """The same connections, for whoever waits longer than 15 s while a broker is away."""
        other = copy(self)
        other._patience_s = seconds
        return other

    def _offsets(self, *, held_back: bool) -> Any:
        """What asks for offsets; the consumer's own stops at the first open transaction, as its fetches do."""
        asking = self._consumer._fetcher
        if held_back:
            asking = copy(asking)
            asking._isolation_level = READ_UNCOMMITTED
        return asking

    @asynccontextmanager
    async def _at(self, offsets: Mapping[TopicPartition, int]) -> AsyncIterator[AIOKafkaConsumer]:
        """The consumer, fetching from these offsets on and nothing else."""
        async with self._lock:
            self._consumer.assign(list(offsets))
            for tp, offset in offsets.items():
                self._consumer.seek(tp, offset)
            try:
                yield self._consumer
            finally:
                self._consumer.pause(*offsets)

    async def describe(self, topic: str) -> Described | None:
        """Number of partitions now, and which log it is; None when there is no such topic, or none to be seen."""
        return (await self._described(topic))[1]

    async def is_gone(self, topic: str) -> bool:
        """Whether there is no such topic; False where this login may not see it."""
        return (await self._described(topic))[0] == UNKNOWN_TOPIC

    async def _described(self, topic: str) -> tuple[int, Described | None]:
        async def request() -> tuple[int, Described | None]:
            answer = await self._admin._send_request(TopicRequest(topic))  # it has no public way for it
            code, found = described(answer, topic)
            if code and code not in (UNKNOWN_TOPIC, TopicAuthorizationFailedError.errno):
                raise for_code(code)(topic)
            return code, found

        told: tuple[int, Described | None] = await self._guard(request)
        return told

    async def partitions(self, topic: str) -> int | None:
        """Number of partitions now, or None when there is no such topic."""
        found = await self.describe(topic)
        return found.partitions if found else None

    async def require_partitions(self, topic: str) -> int:
        """Number of partitions. Raises PenstockError with the command that makes the topic."""
        return (await self.require_topic(topic)).partitions

    async def require_topic(self, topic: str) -> Described:
        """The topic as it is now. Raises PenstockError with the command that makes it."""
        found = await self.describe(topic)
        if found is None:
            raise PenstockError(
                f"the topic {topic} does not exist on {self._servers}, or this login may not see it: create it (for "
                f"example `kafka-topics.sh --bootstrap-server {self._servers} --create --topic {topic} --partitions "
                "8`), or set source.topic; `penstock ingest` creates it too"
            )
        return found

    async def configs(self, topic: str) -> dict[str, str]:
        """Settings of a topic that is there; none where this login may not see them."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = await self._guard(lambda: self._admin.describe_configs([resource]))
        ((code, _, _, _, entries),) = answer.resources
        return {} if code else {entry[0]: entry[1] for entry in entries}

    async def is_compacted(self, topic: str) -> bool:
        """Whether newer records of a key take the older ones away; False where this login may not see it."""
        return "compact" in (await self.configs(topic)).get("cleanup.policy", "")

    async def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, Bounds]:
        """Bounds as the broker knows them now, by partition."""
        tps = [TopicPartition(topic, partition) for partition in partitions]
        if not tps:
            return {}
        begin, end = await asyncio.gather(
            self._guard(lambda: self._consumer.beginning_offsets(tps)),
            self._guard(lambda: self._consumer.end_offsets(tps)),
        )
        # what is deleted may reach beyond the records that a transaction keeps from being read
        return {tp.partition: Bounds(begin=begin[tp], end=max(begin[tp], end[tp])) for tp in tps}

    async def written(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last record, by partition: above the bounds' end where a transaction is open."""
        tps = [TopicPartition(topic, partition) for partition in partitions]
        asking = self._offsets(held_back=True)
        found = await self._guard(lambda: asking.end_offsets(tps, REQUEST_TIMEOUT_MS)) if tps else {}
        return {tp.partition: offset for tp, offset in found.items()}

    async def offsets_at(
        self, topic: str, partitions: Iterable[int], at_ms: int, *, held_back: bool = False
    ) -> dict[int, int]:
        """First offsets with a timestamp at or after a moment, by partition; absent where there is none.

        `held_back`: also of records behind an open transaction, which nobody reads yet.
        """
        found = await self._found_at(topic, partitions, at_ms, held_back=held_back)
        return {partition: row.offset for partition, row in found.items()}

    async def first_times(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Timestamps of the first records that have one, by partition, milliseconds; also of an open transaction."""
        found = await self._found_at(topic, partitions, 0, held_back=True)
        return {partition: row.timestamp for partition, row in found.items()}

    async def _found_at(self, topic: str, partitions: Iterable[int], at_ms: int, *, held_back: bool) -> dict[int, Any]:
        times = {TopicPartition(topic, partition): at_ms for partition in partitions}
        if not times:
            return {}
        asking = self._offsets(held_back=held_back)
        found = await self._guard(lambda: asking.get_offsets_by_times(times, REQUEST_TIMEOUT_MS))
        return {tp.partition: row for tp, row in found.items() if row is not None}

    async def next_from(self, topic: str, partition: int, offset: int) -> Next:
        """The first record at or after `offset`, committed ones only; it proves holes on its way.

        Returns when it has one, has seen the log up to its end, or after 5 s.
        """
        tp = TopicPartition(topic, partition)
        end = (await self._guard(lambda: self._consumer.end_offsets([tp])))[tp]
        async with self._at({tp: offset}) as consumer:
            deadline = Deadline(READ_TIMEOUT_S)
            position = start = offset
            while position < end and deadline.left_s:
                found, begun = await self._fetch([tp], timeout_ms=200, max_records=1)
                if found.get(tp):
                    return Next(record=record_of(found[tp][0]), position=found[tp][0].offset, start=start)
                start = begun.get(tp, start)
                position = await self._guard(lambda: consumer.position(tp))
        return Next(record=None, position=position, start=start)

    async def record_at(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at exactly this offset; None where the log, as it is now, has none, or no such partition.

        Raises PenstockError when it does not say for 15 s (`patient`): that nothing came is no answer.
        """
        if not 0 <= partition < await self.require_partitions(topic):  # the client would wait for it
            return None
        bound = (await self.bounds(topic, [partition]))[partition]
        if not bound.begin <= offset < bound.end:
            return None
        return (await self.records_at(topic, {partition: offset})).get(partition)

    async def records_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, Record]:
        """The records at exactly these offsets, by partition; absent where the log holds none there, or not any more.

        Raises PenstockError when none comes for 15 s (`patient`).
        """
        wanted = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        found: dict[int, Record] = {}
        if not wanted:
            return found
        async with self._at(wanted) as consumer:
            deadline, waiting = Deadline(self._patience_s), list(wanted)
            while waiting:  # an answer holds some of them only, where batches are large
                answer, _ = await self._fetch(waiting, timeout_ms=200, max_records=1)
                for tp, (row,) in answer.items():
                    if row.offset == wanted[tp]:
                        found[tp.partition] = record_of(row)
                left = [tp for tp in waiting if tp not in answer]
                if not answer:  # all that is left may be holes
                    left = [tp for tp in left if await self._guard(lambda: consumer.position(tp)) == wanted[tp]]  # noqa: B023
                if len(left) < len(waiting):
                    deadline = Deadline(self._patience_s)
                elif not deadline.left_s:
                    raise silent(topic, left[0].partition, wanted[left[0]], self._patience_s)
                waiting = left
        return found

    async def page(self, topic: str, partition: int, offset: int, end: int) -> Page:
        """Committed records from `offset` on, as many as one fetch holds; none at `end`.

        At least one record, a step over a hole or to the log's start, else raises PenstockError after 15 s (`patient`).
        """
        tp = TopicPartition(topic, partition)
        start = offset
        async with self._at({tp: offset}) as consumer:
            deadline = Deadline(self._patience_s)
            while start < end:
                found, begun = await self._fetch([tp], timeout_ms=500)
                start = min(end, begun.get(tp, start))
                position = await self._guard(lambda: consumer.position(tp))
                if position > start:
                    records = [record_of(row) for row in found.get(tp, []) if row.offset < end]
                    return Page(records=records, position=min(end, position), start=start)
                if not deadline.left_s:
                    raise silent(topic, partition, offset, self._patience_s)
        return Page(records=[], position=end, start=start)

    async def pages(self, topic: str, partitions: int, last: int | None = None) -> AsyncIterator[tuple[Page, int]]:
        """All that is in a topic now, page by page, partition after partition, and how many offsets were passed.

        `last`: only so many offsets of each partition. Raises as `page`.
        """
        for partition, bound in (await self.bounds(topic, range(partitions))).items():
            offset = bound.begin if last is None else max(bound.begin, bound.end - last)
            while offset < bound.end:
                page = await self.page(topic, partition, offset, bound.end)
                yield page, page.position - offset
                offset = page.position

    async def _fetch(
        self, tps: list[TopicPartition], *, timeout_ms: int, max_records: int | None = None
    ) -> tuple[dict[TopicPartition, list[Any]], dict[TopicPartition, int]]:
        """Records that came, and the log's start of each partition that lost what it was to read: it goes on there.

        The broker refuses an offset below the log's start; only `auto_offset_reset="none"` lets that be seen.
        Partitions that gave records are paused: what the client reads ahead of them nobody takes, and it asks a broker
        for nothing else for a tenth of a second, in case somebody does.
        """

        async def fetch() -> dict[TopicPartition, list[Any]]:
            found: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                *tps, timeout_ms=timeout_ms, max_records=max_records
            )
            self._consumer.pause(*found)  # before the client's own task has its turn
            if max_records is not None:
                for tp, rows in found.items():  # what is left of the answer is thrown away, not waited for
                    self._consumer.seek(tp, rows[-1].offset + 1)
            return found

        try:
            return await self._guard(fetch), {}
        except OffsetOutOfRangeError:  # of now, or of an earlier read: the bounds tell
            begin = await self._guard(lambda: self._consumer.beginning_offsets(tps))
        begun = {}
        for tp in tps:
            if await self._guard(lambda: self._consumer.position(tp)) < begin[tp]:  # noqa: B023
                self._consumer.seek(tp, begin[tp])
                begun[tp] = begin[tp]
        if not begun:  # a leader that knows less than the one before it
            await asyncio.sleep(RETRY_EVERY_S)
        return {}, begun

    async def last(self, topic: str) -> dict[int, Record]:
        """The last record of each partition, of a topic without transactions; absent where there is none."""
        count = await self.partitions(topic) or 0  # asking for the bounds of no topic would wait for one to come
        bounds = await self.bounds(topic, range(count))
        ends = {partition: found.end - 1 for partition, found in bounds.items() if found.begin < found.end}
        return await self.records_at(topic, ends)

    async def create_topic(self, topic: str, partitions: int, configs: dict[str, str]) -> None:
        """Make a topic with the broker's own replication factor, unless it exists. Returns when it can be used."""
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, topic_configs=configs)
        new.replication_factor = -1  # the broker's own; the constructor does not let it through
        with translated(self._servers):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                answer = await cancellable(lambda: self._admin.create_topics([new]))
        for name, code, *message in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise PenstockError(f"the topic {name} could not be created: {' '.join(map(str, message))}")
        await self._until(topic, lambda partitions: bool(partitions))

    async def _until(self, topic: str, settled: Callable[[int | None], bool]) -> None:
        """Topics are made and deleted a little after the answer. Raises AwayError after 15 s."""
        with translated(self._servers):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while not settled(await self.partitions(topic)):  # noqa: ASYNC110 - the broker sends no event for it
                    await asyncio.sleep(0.05)

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Give a topic so many partitions, if it has fewer; nothing when there is no such topic."""
        count = await self.partitions(topic)
        if count is not None and count < partitions:
            new = {topic: NewPartitions(total_count=partitions)}
            await self._guard(lambda: self._admin.create_partitions(new))

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic. Returns when it is gone; raises PenstockError when this login may not."""
        answer = await self._guard(lambda: self._admin.delete_topics([topic]))
        for _, code in answer.topic_error_codes:
            if code not in (0, UNKNOWN_TOPIC):
                raise unreachable(self._servers, for_code(code)(topic))
        await self._until(topic, lambda partitions: partitions is None)

    async def delete_before(self, topic: str, offsets: dict[int, int]) -> None:
        """Delete what is below these offsets, by partition."""
        below = {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in offsets.items()}
        if below:
            await self._guard(lambda: self._admin.delete_records(below))

    async def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Offsets that a consumer group committed, by partition; absent where it did not."""
        tps = [TopicPartition(topic, partition) for partition in partitions]
        if not tps:
            return {}
        found = await self._guard(lambda: self._admin.list_consumer_group_offsets(group, partitions=tps))
        return {tp.partition: stored.offset for tp, stored in found.items() if stored.offset >= 0}

    async def group_members(self, group: str) -> list[dict[str, str]]:
        """`{id, host}` of each member of a consumer group; none when there is no such group.

        Raises PenstockError when this login may not use it.
        """
        try:
            (answer,) = await self._guard(lambda: self._admin.describe_consumer_groups([group]))
        except GroupCoordinatorNotAvailableError:  # a cluster without any group so far
            return []
        members = answer.groups[0][5]  # error, group, state, protocol type, protocol, members
        return [{"id": member[0], "host": member[2].lstrip("/")} for member in members]

    async def _guard(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, asked for again while a broker is away or a partition has no leader; 15 s in all (`patient`)."""
        deadline = Deadline(self._patience_s)
        while True:
            try:
                async with asyncio.timeout(deadline.left_s):
                    return await cancellable(call)
            except (GroupCoordinatorNotAvailableError, OffsetOutOfRangeError):
                raise
            except ConsumerStoppedError as exc:
                raise PenstockError("the connection to Kafka was closed meanwhile") from exc
            except (KafkaError, TimeoutError) as exc:
                if not passes(exc) or not deadline.left_s:
                    raise unreachable(self._servers, exc) from exc
            await asyncio.sleep(RETRY_EVERY_S)


@asynccontextmanager
async def log_reader(settings: Settings, fetch_bytes: int = PAGE_BYTES) -> AsyncIterator[LogReader]:
    """A connected reader. Raises PenstockError when the cluster cannot be reached.

    `fetch_bytes`: of one partition at a time; one record may be larger. Small for whoever reads single records.
    """
    servers = settings.kafka.bootstrap_servers
    read_as_it_is()
    async with AsyncExitStack() as stack:
        for last in (False, True):
            consumer, admin = _clients(settings, fetch_bytes)
            stack.push_async_callback(cancellable, admin.close)
            stack.push_async_callback(cancellable, consumer.stop)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await cancellable(partial(_start, consumer, admin))
                break
            except (KafkaError, TimeoutError) as exc:
                found = await ask(servers, tls(settings))
                listens = isinstance(exc, KafkaConnectionError) and any(each.listens for each in found)
                if last or not listens:  # it may have come up between the attempt and the question
                    raise unreachable(servers, exc, found) from exc
        yield LogReader(consumer, admin, servers)


async def _start(consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
    await asyncio.gather(consumer.start(), admin.start())


def _clients(settings: Settings, fetch_bytes: int) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
    try:
        consumer = AIOKafkaConsumer(
            **connection(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",  # else what retention took is answered by the log's end, as if nothing was there
            isolation_level="read_committed",
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        return consumer, AIOKafkaAdminClient(**connection(settings))
    except ValueError as exc:
        raise ConfigError(f"kafka.bootstrap_servers = {settings.kafka.bootstrap_servers}: {exc}") from exc
