"""What is written where the dead-letter topic takes less than the source topic did."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from agents.kafka.dead_letters import DeadLetterTopic
from agents.metrics import Metrics
from agents.settings import Settings
from streams.dead_letter import Home, read_letter
from streams.errors import PenstockError
from streams.record import Record, Rejected

HOME = Home(group="g", index="i", log="c/t")


class Topic:
    """Takes messages of so many bytes; alone, as aiokafka's producer, none without both key and value."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[dict[str, Any]] = []

    async def send_and_wait(self, _: str, **message: Any) -> None:
        assert message["key"] is not None or message["value"] is not None, "Need at least one: key or value"
        self._take(message)

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(16_384, 0)

    async def send_batch(self, batch: BatchBuilder, _: str, *, partition: int) -> "asyncio.Future[None]":
        (record,) = MemoryRecords(bytes(batch._build())).next_batch()
        self._take({"key": record.key, "value": record.value, "headers": record.headers})
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def _take(self, message: dict[str, Any]) -> None:
        size = len(message["key"] or b"") + len(message["value"] or b"")
        if size + sum(len(name) + len(value) for name, value in message["headers"]) > self.most:
            raise MessageSizeTooLargeError
        self.taken.append(message)


def sent(monkeypatch: pytest.MonkeyPatch, most: int, **sizes: int | None) -> dict[str, Any]:
    topic = Topic(most)
    monkeypatch.setattr("agents.kafka.dead_letters.AIOKafkaProducer", lambda **_: topic)
    record = Record(
        topic="documents",
        partition=2,
        offset=41,
        timestamp_ms=0,
        key=_bytes(sizes.get("key", 1)),
        value=_bytes(sizes.get("value", 1)),
        headers=(("trace", _bytes(sizes.get("header", 1)) or b""),),
    )
    rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message="no text")
    asyncio.run(DeadLetterTopic(Settings(), HOME, Metrics()).send(rejected, attempt=1, epoch=0))
    (message,) = topic.taken
    letter = read_letter(message["key"], message["value"], message["headers"], 0)
    assert (letter.place, letter.error, letter.message) == ((2, 41), "InvalidRecord", "no text")
    return message


def _bytes(size: int | None) -> bytes | None:
    return None if size is None else b"x" * size


MOST = 1_048_000


@pytest.mark.parametrize(
    ("sizes", "key", "value"),
    [
        ({}, True, True),
        ({"value": 2_000_000}, True, False),
        ({"key": 1_040_000, "value": 10_000}, True, False),
        ({"key": 1_047_900}, False, False),
        ({"header": 1_047_900}, False, False),
        ({"key": 20_000_000, "header": 20_000_000}, False, False),
    ],
)
def test_as_much_is_kept_as_the_topic_takes(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], key: bool, value: bool
) -> None:
    """With a key of 1 MB the pointer did not fit either, and the worker ended in a loop."""
    message = sent(monkeypatch, MOST, **sizes)
    assert (message["key"] is not None, message["value"] is not None) == (key, value)


def test_a_record_with_neither_key_nor_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker ended in a loop: aiokafka's producer refuses what the topic takes."""
    message = sent(monkeypatch, MOST, key=None, value=None)
    assert (message["key"], message["value"]) == (None, None)


def test_a_topic_that_takes_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"documents.dlq did not take documents/2@41 \(\[Error 10\] MessageSizeTooLargeError\).*max.message.bytes"
    with pytest.raises(PenstockError, match=said):
        sent(monkeypatch, 10)
