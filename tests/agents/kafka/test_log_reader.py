"""Reading a log that retention shortens meanwhile: what was lost is told, and nobody goes on at its end.

`log_reader` with aiokafka's own consumer and fetcher, over a broker that is a few lines.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from agents.kafka import reader as reader_module
from agents.kafka.bootstrap import Found
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from streams.errors import AwayError, PenstockError
from streams.ports import Bounds, Next, Page

END, BATCH = 100, 10
OUT_OF_RANGE, EARLIEST = 1, -2


class Broker:
    """Two partitions with the records from `begin` up to 100, in batches of ten. `meanwhile`: before each fetch."""

    _metadata_max_age_ms = 10**6

    def __init__(self) -> None:
        self.begin = {0: 0, 1: 0}
        self.meanwhile: Callable[[], None] = lambda: None
        self.answers = asyncio.Event()
        self.answers.set()
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 0, broker_metadata=lambda _: True)
        self._loop = asyncio.get_running_loop()

    def set_topics(self, _: Any) -> "asyncio.Future[None]":
        done = self._loop.create_future()
        done.set_result(None)
        return done

    async def _maybe_wait_metadata(self) -> None:
        """It is known."""

    async def close(self) -> None:
        """Nothing is open."""

    async def send(self, _: int, request: Any) -> Any:
        await asyncio.sleep(0.001)  # so that requests and whoever sends them take turns
        await self.answers.wait()
        if not isinstance(request, FetchRequest):
            bound = {EARLIEST: lambda p: self.begin[p]}
            topics = [
                (topic, [(p, 0, -1, bound.get(at, lambda _: END)(p)) for p, at in wanted])
                for topic, wanted in request._topics
            ]
            return SimpleNamespace(API_VERSION=1, topics=topics)
        self.meanwhile()
        topics = [(topic, [self._fetched(p, offset) for p, offset, _ in wanted]) for topic, wanted in request.topics]
        return SimpleNamespace(API_VERSION=5, topics=topics)

    def _fetched(self, partition: int, offset: int) -> tuple[Any, ...]:
        if not self.begin[partition] <= offset <= END:
            return partition, OUT_OF_RANGE, -1, -1, -1, [], b""
        data = batch(offset - offset % BATCH) if offset < END else b""
        return partition, 0, END, END, self.begin[partition], [], data


def batch(base: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 2**20)
    for number in range(BATCH):
        builder.append(number, 1, b"k", b"v", [])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")  # no part of the checksum
    return bytes(data)


@asynccontextmanager
async def reading(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[LogReader, Broker]]:
    """The product's reader, with its own options, connected to such a broker."""
    broker = Broker()

    async def start(self: Any) -> None:
        await self._client.close()
        self._client = broker
        self._fetcher = Fetcher(
            broker,
            self._subscription,
            auto_offset_reset=self._auto_offset_reset,
            isolation_level=self._isolation_level,
            max_partition_fetch_bytes=self._max_partition_fetch_bytes,
        )
        self._coordinator = SimpleNamespace(check_errors=lambda: None, close=broker.close)

    monkeypatch.setattr(AIOKafkaConsumer, "start", start)
    monkeypatch.setattr(
        reader_module, "AIOKafkaAdminClient", lambda **_: SimpleNamespace(start=broker.close, close=broker.close)
    )

    async def partitions(*_: Any) -> int:
        return len(broker.begin)

    monkeypatch.setattr(LogReader, "require_partitions", partitions)
    async with log_reader(Settings()) as reader:
        yield reader, broker


def next_of(found: Next) -> tuple[int, int, int | None]:
    return found.start, found.position, found.record.offset if found.record else None


def page_of(page: Page) -> tuple[int, int, list[int]]:
    return page.start, page.position, [record.offset for record in page.records]


def test_the_next_record_is_looked_for_from_the_logs_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            assert next_of(await reader.next_from("t", 0, 5)) == (5, 5, 5)
            broker.begin[0] = 43
            assert next_of(await reader.next_from("t", 0, 5)) == (43, 43, 43)
            broker.begin[0] = END
            assert next_of(await reader.next_from("t", 0, 5)) == (END, END, None)

    asyncio.run(scenario())


def test_whoever_is_patient_waits_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            broker.answers.clear()
            waiting = asyncio.create_task(reader.patient(600).bounds("t", [0]))
            with pytest.raises(AwayError, match="cannot be reached"):
                await reader.patient(0.05).bounds("t", [0])
            assert not waiting.done()
            broker.answers.set()
            assert await waiting == {0: Bounds(begin=0, end=END)}

    asyncio.run(scenario())


@pytest.mark.parametrize("failures", [1, 2])
def test_a_broker_that_comes_up_between_an_attempt_and_the_question_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Whoever listens, and lets no client in, refuses the login: for a broker that has just come up that is untrue."""
    started: list[Any] = []

    async def start(self: Any) -> None:
        await self._client.close()
        started.append(self)
        if len(started) <= failures:
            raise KafkaConnectionError("Unable to bootstrap from [('127.0.0.1', 9092, 0)]")
        self._fetcher = self._coordinator = SimpleNamespace(close=self._client.close)

    async def ask(*_: Any) -> list[Found]:
        return [Found(server="127.0.0.1:9092")]

    async def nothing() -> None:
        """Nothing is open."""

    async def scenario() -> None:
        async with log_reader(Settings()):
            assert len(started) == 2

    monkeypatch.setattr(AIOKafkaConsumer, "start", start)
    monkeypatch.setattr(reader_module, "ask", ask)
    monkeypatch.setattr(reader_module, "AIOKafkaAdminClient", lambda **_: SimpleNamespace(start=nothing, close=nothing))
    if failures == 1:
        asyncio.run(scenario())
    else:
        with pytest.raises(PenstockError, match="is it up, and are .* the login right") as told:
            asyncio.run(scenario())
        assert not isinstance(told.value, AwayError)
    assert len(started) == 2


def test_a_page_tells_what_is_lost_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            assert page_of(await reader.page("t", 0, 5, END)) == (5, 10, [5, 6, 7, 8, 9])
            broker.begin[0] = 47
            assert page_of(await reader.page("t", 0, 10, 49)) == (47, 49, [47, 48])
            assert page_of(await reader.page("t", 0, 10, 40)) == (40, 40, [])
            broker.begin[0] = END
            assert page_of(await reader.page("t", 0, 10, END)) == (END, END, [])

    asyncio.run(scenario())


def test_of_several_records_only_those_that_are_gone_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            assert sorted(await reader.records_at("t", {0: 5, 1: 7})) == [0, 1]
            broker.begin[0] = 43
            found = await reader.records_at("t", {0: 5, 1: 7})
            assert {partition: row.offset for partition, row in found.items()} == {1: 7}

    asyncio.run(scenario())


def test_retention_that_goes_on_while_the_logs_start_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            steps = iter(range(20, 60, 3))
            broker.meanwhile = lambda: broker.begin.update({0: next(steps, 59)})
            assert next_of(await reader.next_from("t", 0, 5)) == (59, 59, 59)

    asyncio.run(scenario())


def test_that_nothing_came_is_no_empty_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a quota: who takes a slow broker's silence for a hole deletes what is there."""

    async def nothing(*_: Any, **__: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        await asyncio.sleep(0.01)
        return {}, {}

    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, broker):
            found = await reader.record_at("t", 0, 5)
            assert found is not None
            assert found.offset == 5
            broker.begin[0] = 43
            assert [await reader.record_at("t", 0, offset) for offset in (5, END)] == [None, None]
            assert await reader.record_at("t", 7, 5) is None, "there is no such partition"
            monkeypatch.setattr(LogReader, "_fetch", nothing)
            with pytest.raises(PenstockError, match="t/0"):
                await reader.patient(0.05).record_at("t", 0, 50)

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(4))
def test_a_stop_in_the_moment_of_an_answer_is_not_lost(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """`turns` of the loop between the two."""

    async def scenario() -> None:
        async with reading(monkeypatch) as (reader, _):
            answer = asyncio.get_running_loop().create_future()
            asked = asyncio.Event()

            async def call() -> object:
                asked.set()
                return await answer

            asking = asyncio.create_task(reader._guard(call))
            await asked.wait()
            answer.set_result(None)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert asking.cancel() or asking.done()
            await asyncio.wait([asking])
            assert asking.cancelled() == bool(asking.cancelling())

    asyncio.run(scenario())
