"""The Metadata request with topic ids, as brokers since 2.8 answer it, and the older one."""

import asyncio
import time
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer, client
from aiokafka.admin import client as admin_client
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5

from agents.kafka.connection import connection
from agents.kafka.topic_id import UNKNOWN_TOPIC, TopicRequest, described
from agents.settings import Settings
from streams.contract import Described

TOPIC_ID = UUID("b8c4d5f6-0000-4000-8000-00000000002a")
PARTITION: tuple[object, ...] = (0, 0, 1, 7, [1, 2], [1], [], {})


def flexible(topic_id: UUID, code: int = 0):  # type: ignore[no-untyped-def]
    """A response of version 10, through its bytes."""
    made = (
        TopicRequest("documents")
        .prepare({3: (0, 13)})
        .RESPONSE_TYPE(
            0,
            [(1, "broker", 9092, None, {})],
            "cluster",
            1,
            [(code, "documents", topic_id, False, [] if code else [PARTITION, PARTITION], -1, {})],
            -1,
            {},
        )
    )
    return type(made).decode(BytesIO(made.encode()))


def test_the_newest_version_that_the_broker_knows_is_asked() -> None:
    assert TopicRequest("t").prepare({3: (0, 13)}).API_VERSION == 10
    assert TopicRequest("t").prepare({3: (0, 9)}).API_VERSION == 5
    assert TopicRequest("t").prepare({3: (0, 13)}).encode() == b"\x02" + bytes(16) + b"\x02t\0" + b"\0\0\0\0"


@pytest.mark.parametrize(
    ("topic_id", "log"), [(TOPIC_ID, f"cluster/{TOPIC_ID}"), (UUID(int=0), "cluster/")], ids=["id", "no id"]
)
def test_a_topic_is_known_by_its_id(topic_id: UUID, log: str) -> None:
    assert described(flexible(topic_id), "documents") == (0, Described(partitions=2, log=log))


def test_without_topic_ids_the_cluster_is_what_is_known() -> None:
    answer = MetadataResponse_v5(0, [], "cluster", 1, [(0, "documents", False, [PARTITION])])
    assert described(answer, "documents") == (0, Described(partitions=1, log="cluster/"))


@pytest.mark.parametrize("module", [client, admin_client], ids=["every client", "admin"])
def test_no_question_makes_a_topic(module: Any) -> None:
    """A broker with its default settings makes what is asked for: a topic that an operator has just deleted."""
    connection(Settings())
    assert module.MetadataRequest(["t"]).build(MetadataRequest_v5).to_object() == {
        "topics": ["t"],
        "allow_auto_topic_creation": False,
    }


def test_a_producer_asks_for_metadata_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, it asks as fast as the broker answers, as long as a partition has no leader."""
    asked: list[list[str]] = []

    async def scenario() -> float:
        producer = AIOKafkaProducer(**connection(Settings()))

        async def answer(_: Any, __: Any, topics: Any) -> bool:
            asked.append(sorted(topics))
            return True

        monkeypatch.setattr(client.AIOKafkaClient, "_metadata_update", answer)
        began = time.monotonic()
        for topics in [("a",), ("a", "b"), ("a", "b"), ("a", "b")]:  # another topic is asked for at once
            await producer.client._metadata_update(producer.client.cluster, set(topics))
        took = time.monotonic() - began
        await producer.stop()
        return took

    assert asyncio.run(scenario()) >= 0.19
    assert asked == [["a"], ["a", "b"], ["a", "b"], ["a", "b"]]


def test_no_such_topic() -> None:
    assert described(flexible(UUID(int=0), UNKNOWN_TOPIC), "documents") == (UNKNOWN_TOPIC, None)
    assert described(flexible(TOPIC_ID), "another") == (UNKNOWN_TOPIC, None)
