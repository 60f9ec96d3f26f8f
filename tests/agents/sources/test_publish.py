"""Publishing that fails or is stopped: what is said of it, and what stays open. No server."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from agents.settings import Settings
from agents.sources import Outgoing, publish
from streams.errors import PenstockError


class Producer:
    """Acknowledges what it was sent when it is stopped. `answers`: whether it starts at all."""

    answers = True

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[object]] = []
        self.stopped = 0

    async def start(self) -> None:
        if not self.answers:
            await asyncio.Event().wait()

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[object]":
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    async def stop(self) -> None:
        self.stopped += 1
        for sent in self.sent:
            if not sent.done():
                sent.set_result(None)
        await asyncio.sleep(0)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    made = Producer()

    async def count(_: str) -> int:
        return 1

    @asynccontextmanager
    async def reader(_: Settings) -> Any:
        yield SimpleNamespace(partitions=count, require_partitions=count)

    async def lag(*_: Any) -> int:
        return 0

    monkeypatch.setattr(publish, "AIOKafkaProducer", lambda **_: made)
    monkeypatch.setattr(publish, "log_reader", reader)
    monkeypatch.setattr(publish, "_lag", lag)
    return made


async def published(documents: Iterator[Outgoing]) -> int:
    return await publish.publish(Settings(), documents, max_lag=10, partitions=1, report=lambda *_: None)


def test_a_failure_says_how_many_were_published(producer: Producer) -> None:
    def documents() -> Iterator[Outgoing]:
        yield from (Outgoing(key=b"k", value=b"{}", origin=str(number)) for number in range(3))
        raise PenstockError("bad.jsonl, line 4 is no JSON")

    with pytest.raises(PenstockError) as caught:
        asyncio.run(published(documents()))
    assert str(caught.value) == (
        "bad.jsonl, line 4 is no JSON. Before it stopped, 3 documents were published; to publish them again is harmless"
    )


def test_one_that_is_refused_is_named_and_the_others_are_counted(producer: Producer) -> None:
    def documents() -> Iterator[Outgoing]:
        yield from (Outgoing(key=b"k", value=b"{}", origin=f"line {number}") for number in range(5))
        producer.sent[0].set_result(None)
        producer.sent[1].set_exception(MessageSizeTooLargeError())

    with pytest.raises(PenstockError, match="line 1: 2 bytes are more .* 4 documents were published"):
        asyncio.run(published(documents()))


def test_a_producer_that_is_stopped_while_it_connects_is_closed(producer: Producer) -> None:
    """Else its own complaint follows the user's Ctrl-C."""
    producer.answers = False

    async def cut_off() -> None:
        task = asyncio.create_task(published(iter(())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut_off())
    assert producer.stopped == 1
