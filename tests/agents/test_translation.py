"""Whatever the clients of Kafka and Elasticsearch can raise is an error of our own, of a kind that was chosen."""

from collections.abc import Iterator
from typing import Any

import aiokafka.errors
import elasticsearch
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch.helpers import ScanError

from agents.elastic.errors import translated as of_elasticsearch
from agents.kafka.bootstrap import Found
from agents.kafka.connection import AWAY, REFUSALS, unreachable
from agents.kafka.connection import translated as of_kafka
from streams.errors import AwayError, PenstockError

TRANSPORT: dict[str, type[PenstockError]] = {
    "ConnectionError": AwayError,
    "ConnectionTimeout": AwayError,
    "TlsError": PenstockError,
    "SerializationError": AwayError,
    "SniffingError": AwayError,
}
"""By what the client raises itself; a new one has to be given a place here."""
RETRIABLE = {
    "Cancelled",
    "CorrelationIdError",
    "GroupCoordinatorNotAvailableError",
    "GroupLoadInProgressError",
    "KafkaConnectionError",
    "KafkaProtocolError",
    "KafkaStorageError",
    "LeaderNotAvailableError",
    "MetadataEmptyBrokerList",
    "NoBrokersAvailable",
    "NodeNotReadyError",
    "NotControllerError",
    "NotCoordinatorForGroupError",
    "NotEnoughReplicasAfterAppendError",
    "NotEnoughReplicasError",
    "NotLeaderForPartitionError",
    "RequestTimedOutError",
    "StaleMetadata",
    "TooManyInFlightRequests",
    "UnknownTopicOrPartitionError",
}
"""What aiokafka calls so; another one has to be looked at."""


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def raised_by_elasticsearch(exc: Exception) -> PenstockError:
    with pytest.raises(PenstockError) as caught, of_elasticsearch("http://es:9200", "; try again"):
        raise exc
    assert caught.value.__cause__ is exc
    assert str(caught.value).startswith("Elasticsearch at http://es:9200 ")
    helps = isinstance(caught.value, AwayError) or not isinstance(exc, elasticsearch.ApiError)
    assert str(caught.value).endswith("; try again") == helps  # what cannot succeed is not to be tried again
    return caught.value


def test_every_error_of_elasticsearchs_client_has_a_kind() -> None:
    kinds = {kind.__name__: kind for kind in below(elasticsearch.TransportError)}
    assert kinds.keys() == TRANSPORT.keys()
    for name, kind in kinds.items():
        assert type(raised_by_elasticsearch(kind("what it says"))) is TRANSPORT[name]  # type: ignore[arg-type]
    answers = set(below(elasticsearch.ApiError)) | {elasticsearch.ApiError}
    for answer in answers:
        for status in (400, 401, 403, 404, 408, 409, 413, 429, 500, 503, 520):
            meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es", 9200))
            found = raised_by_elasticsearch(answer("what", meta, {"error": {"reason": "why"}}))  # type: ignore[arg-type]
            assert type(found) is (AwayError if status in (408, 429) or status >= 500 else PenstockError)
            assert f"answered {status}: why" in str(found)
            assert type(raised_by_elasticsearch(answer("what", meta, "<html>"))) is type(found)  # type: ignore[arg-type]
    assert "a part of an index only: 1 of 2 shards" in str(raised_by_elasticsearch(ScanError("x", "1 of 2 shards")))


@pytest.mark.parametrize(
    ("status", "error", "kind", "told"),
    [
        (
            403,
            {"type": "cluster_block_exception", "reason": "blocked by: [FORBIDDEN/13/cluster read-only];"},
            AwayError,
            "answered 403: blocked by: [FORBIDDEN/13/cluster read-only];; try again",
        ),
        (
            400,
            {"type": "index_closed_exception", "reason": "closed", "index": "docs-000001"},
            AwayError,
            "docs-000001 is closed: open it (`POST /docs-000001/_open`)",
        ),
        (
            403,
            {"type": "security_exception", "reason": "action is unauthorized"},
            PenstockError,
            "unauthorized (ops/elasticsearch has the privileges that are needed)",
        ),
        (
            400,
            {
                "type": "search_phase_execution_exception",
                "reason": "all shards failed",
                "root_cause": [{"type": "illegal_argument_exception", "reason": "Result window is too large"}],
            },
            PenstockError,
            "answered 400: all shards failed: Result window is too large",
        ),
        (404, "index_not_found_exception", PenstockError, "answered 404: index_not_found_exception"),
    ],
)
def test_what_elasticsearch_says_of_its_reasons(status: int, error: Any, kind: type[PenstockError], told: str) -> None:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es", 9200))
    found = raised_by_elasticsearch(elasticsearch.ApiError("what", meta, {"error": error}))
    assert type(found) is kind
    assert told in str(found)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Cannot connect to host es:9200 ssl:default [Connect call failed ('127.0.0.1', 1)]",
            "reached (no connection):",
        ),
        (
            "Cannot connect to host es:9200 ssl:default [Name or service not known]",
            "reached (Name or service not known):",
        ),
        ("Server disconnected", "reached (Server disconnected):"),
        (
            "Cannot connect to host es:9 ssl:default [[SSL: WRONG_VERSION_NUMBER] wrong]",
            "TLS: is it http:// in elastic",
        ),
    ],
)
def test_what_elasticsearchs_client_says_is_for_people(message: str, told: str) -> None:
    kind = elasticsearch.SSLError if "SSL:" in message else elasticsearch.ConnectionError
    found = str(raised_by_elasticsearch(kind(message)))
    assert told in found
    assert "ssl:default" not in found
    assert "SSL:" not in found


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "reached (no connection):"),
        ([Found(server="a:1", listens=False)], "reached (no connection):"),
        ([Found(server="a:1")], "reached (connections are closed at once):"),
    ],
)
def test_what_kafkas_client_says_is_for_people(found: list[Found], told: str) -> None:
    addresses = "[('127.0.0.1', 1, <AddressFamily.AF_INET: 2>)]"
    error = str(
        unreachable("a:1", aiokafka.errors.KafkaConnectionError(f"Unable to bootstrap from {addresses}"), found)
    )
    assert told in error
    assert "AF_INET" not in error


def test_every_error_of_kafkas_client_has_a_kind() -> None:
    kinds = {kind.__name__: kind for kind in below(aiokafka.errors.KafkaError)}
    del kinds["BrokerResponseError"]  # what a broker answers is one of those below it
    assert {name for name, kind in kinds.items() if kind.retriable} == RETRIABLE  # type: ignore[attr-defined]
    every: list[tuple[str, type[BaseException]]] = [*kinds.items(), ("TimeoutError", TimeoutError)]
    for name, kind in every:
        with pytest.raises(PenstockError) as caught, of_kafka("broker:9092"):
            raise kind()
        passes = name in RETRIABLE or kind in AWAY or kind is TimeoutError
        assert type(caught.value) is (AwayError if passes else PenstockError), name
        assert ("refuses access" in str(caught.value)) == (kind in REFUSALS)
        assert "Kafka at broker:9092" in str(caught.value)
