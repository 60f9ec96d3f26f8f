"""Whatever the clients of Kafka and Elasticsearch can raise is an error of our own, of a kind that was chosen."""

from collections.abc import Iterator

import aiokafka.errors
import elasticsearch
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch.helpers import ScanError

from agents.elastic.errors import RETRIED
from agents.elastic.errors import translated as of_elasticsearch
from agents.kafka.connection import AWAY, REFUSALS
from agents.kafka.connection import translated as of_kafka
from streams.errors import AwayError, PenstockError

TRANSPORT: dict[str, type[PenstockError]] = {
    "ConnectionError": AwayError,
    "ConnectionTimeout": AwayError,
    "TlsError": PenstockError,
    "SerializationError": PenstockError,
    "SniffingError": PenstockError,
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
    assert str(caught.value).endswith("; try again")
    return caught.value


def test_every_error_of_elasticsearchs_client_has_a_kind() -> None:
    kinds = {kind.__name__: kind for kind in below(elasticsearch.TransportError)}
    assert kinds.keys() == TRANSPORT.keys()
    for name, kind in kinds.items():
        assert type(raised_by_elasticsearch(kind("what it says"))) is TRANSPORT[name]  # type: ignore[arg-type]
    answers = set(below(elasticsearch.ApiError)) | {elasticsearch.ApiError}
    for answer in answers:
        for status in (400, 401, 403, 404, 409, 413, *RETRIED):
            meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es", 9200))
            found = raised_by_elasticsearch(answer("what", meta, {"error": {"reason": "why"}}))  # type: ignore[arg-type]
            assert type(found) is (AwayError if status in RETRIED else PenstockError)
            assert f"answered {status}: why" in str(found)
    assert "a part of an index only: 1 of 2 shards" in str(raised_by_elasticsearch(ScanError("x", "1 of 2 shards")))


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
