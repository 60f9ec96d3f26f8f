"""Publishing that fails or is stopped: what is said of it, and what stays open. No server."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    InvalidTxnState,
    KafkaError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    ProducerFenced,
)

from agents import stopping
from agents.settings import Settings
from agents.sources import Outgoing, publish
from agents.sources.publish import Change
from agents.sources.state import Published, State
from streams.dead_letter import Failed
from streams.errors import AwayError, PenstockError


class Producer:
    """Fails as it is told. `answers`: whether it starts at all. `silent`: to records, and to an abort."""

    answers = True
    silent = False
    error: KafkaError | None = None

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.stopped = self.committed = 0

    async def start(self) -> None:
        if not self.answers:
            await asyncio.Event().wait()

    def transaction(self) -> "Producer":
        return self

    async def __aenter__(self) -> "Producer":
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.committed += kind is None
        if self.silent and kind:
            await asyncio.shield(asyncio.Event().wait())  # as aiokafka does, which has no deadline there

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None = None, headers: object = None
    ) -> "asyncio.Future[object]":
        self.sent.append((topic, key))
        future = asyncio.get_running_loop().create_future()
        if self.silent:
            return future
        if self.error and (value is None or len(value) > 10):
            future.set_exception(self.error)
        else:
            future.set_result(SimpleNamespace(partition=0, offset=len(self.sent)))
        return future

    async def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    made = Producer()

    async def rows(*_: Any) -> list[dict[str, int]]:
        return [{"lag": 0}]

    monkeypatch.setattr(publish, "AIOKafkaProducer", lambda **_: made)
    monkeypatch.setattr(publish, "partition_rows", rows)
    return made


def hidden(cause: Exception) -> KafkaError:
    """As aiokafka's sender does with what it did not expect."""
    error = KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


async def published(state: State, *texts: bytes) -> None:
    reader: Any = None
    async with publish.publisher(Settings(), reader, state, "source", 1, 100, lambda _: None) as to:
        changes = [
            Change(
                outgoing=Outgoing(key=b"k%d" % number, value=text, origin=f"line {number}"),
                published=Published(source="source", object="object", hash="hash"),
            )
            for number, text in enumerate(texts)
        ]
        await to.publish(changes, [])


def test_records_and_what_is_remembered_of_them_are_one_transaction(producer: Producer) -> None:
    with State("log") as state:
        asyncio.run(published(state, b"{}", b"{}"))
        assert [topic for topic, _ in producer.sent] == ["documents"] * 2 + ["documents.sources"] * 2
        assert (producer.committed, producer.stopped) == (1, 1)
        assert state.published("k1") == Published(source="source", object="object", hash="hash", partition=0, offset=2)


def test_a_letter_about_what_failed_its_row_and_other_records_are_one_transaction(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def there(*_: Any) -> bool:
        return False

    async def fail(state: State) -> None:
        reader: Any = None
        async with publish.publisher(Settings(), reader, state, "source", 1, 100, lambda _: None) as to:
            await to.publish([], [], [Failed(source="source", object="object", tag="t", error="E", reason="r")])

    monkeypatch.setattr(publish, "make_dead_letter_topic", there)
    with State("log") as state:
        asyncio.run(fail(state))
        assert [topic for topic, _ in producer.sent] == ["documents.dlq", "documents.sources"]
        assert (producer.committed, state.failures.is_over("source", "object")) == (1, True)
    producer.error = MessageSizeTooLargeError()
    with (
        State("log") as state,
        pytest.raises(PenstockError, match=r"documents\.dlq did not take .* max\.message\.bytes"),
    ):
        asyncio.run(fail(state))


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MessageSizeTooLargeError(), "none so large as line 1 .* raise max.message.bytes"),
        (ProducerFenced(), "somebody else has begun to ingest the same source"),
        (hidden(InvalidTxnState()), "somebody else has begun to ingest the same source"),
        (hidden(ValueError()), "did not take the documents .KafkaError: Unexpected error"),
        (NotLeaderForPartitionError(), "did not take the documents .* run it again, it goes on where it was"),
    ],
)
def test_what_the_broker_refuses_is_said_and_not_remembered(producer: Producer, error: KafkaError, part: str) -> None:
    producer.error = error
    with State("log") as state:
        with pytest.raises(PenstockError, match=part):
            asyncio.run(published(state, b"{}", b"{'text': 'long'}"))
        assert (producer.committed, producer.stopped, state.published("k0")) == (0, 1, None)


def test_a_row_that_is_too_large_is_said(producer: Producer) -> None:
    producer.error = MessageSizeTooLargeError()

    async def keep(state: State) -> None:
        reader: Any = None
        async with publish.publisher(Settings(), reader, state, "source", 1, 100, lambda _: None) as to:
            await to.publish([], [(b"key", b"a row that is long")])

    with State("log") as state, pytest.raises(PenstockError, match=r"what is remembered .* documents\.sources"):
        asyncio.run(keep(state))


def test_a_producer_that_is_stopped_while_it_connects_is_closed(producer: Producer) -> None:
    """Else its own complaint follows the user's Ctrl-C."""
    producer.answers = False

    async def cut_off() -> None:
        with State("log") as state:
            task = asyncio.create_task(published(state))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cut_off())
    assert producer.stopped == 1


def test_a_transaction_that_the_broker_neither_takes_nor_aborts_ends(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the topic is deleted meanwhile: whoever comes next has it aborted."""
    producer.silent = True
    monkeypatch.setattr(publish, "COMMIT_S", 0.5)  # it has to connect within it, on whatever machine
    monkeypatch.setattr(publish, "ABORT_S", 0.01)
    with State("log") as state, pytest.raises(AwayError, match="did not take the documents"):
        asyncio.run(published(state, b"{}"))
    assert (producer.committed, producer.stopped) == (0, 1)


def test_a_stop_does_not_wait_for_a_broker_that_does_not_answer(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.silent = True
    monkeypatch.setattr(publish, "STOP_S", 0.01)
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)

    async def stopped() -> None:
        with State("log") as state:
            task = asyncio.create_task(published(state, b"{}"))
            while not producer.sent:  # noqa: ASYNC110 - it waits for memory alone
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(stopped())
    assert (producer.committed, producer.stopped) == (0, 1)
