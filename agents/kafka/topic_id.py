"""Which log is behind a topic's name: a Metadata request with the topic's id, which aiokafka does not ask for.

Version 10 (KIP-516, brokers since 2.8) is a flexible one: compact strings and arrays, tagged fields. Where a broker
knows version 5 at most, the cluster's id is all there is. See https://kafka.apache.org/protocol, Metadata.
"""

from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams.contract import Described

UNKNOWN_TOPIC = 3
NO_ID = UUID(int=0)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is untyped here
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Response(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicRequest(Request[MetadataRequest_v5 | _Request]):  # type: ignore[misc]
    """About one topic, which is not created by it. aiokafka takes the newest version that the broker knows, too."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[MetadataRequest_v5 | _Request]) -> MetadataRequest_v5 | _Request:
        """The request in one of the versions."""
        if request_struct_class is _Request:
            return _Request([(NO_ID, self._topic, {})], False, False, False, {})
        return request_struct_class([self._topic], False)


def described(answer: Any, topic: str) -> tuple[int, Described | None]:
    """The topic in an answer: its error code, and what it is; None on an error, such as that there is none."""
    for found in answer.to_object()["topics"]:
        if found["topic"] == topic and not found["error_code"]:
            number = found.get("topic_id", NO_ID)
            log = f"{answer.cluster_id or ''}/{number if number != NO_ID else ''}"
            return 0, Described(partitions=len(found["partitions"]), log=log)
        if found["topic"] == topic:
            return int(found["error_code"]), None
    return UNKNOWN_TOPIC, None
