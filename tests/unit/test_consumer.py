"""A record as Faust's consumer hands it on is the record as the broker gave it."""

from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from agents.consumer import Consumer
from agents.kafka import record_of
from agents.worker import _record


@pytest.mark.parametrize(
    "timestamp", [-1, 0, 1_700_000_000_123, 1_700_000_000_000_000_001, 2**53 + 1, 2**63 - 1, -(2**63)]
)
def test_timestamps_of_any_size_are_kept_exactly(timestamp: int) -> None:
    """A claim holds the last record's timestamp: one that differs from the log's is refused at the next start."""
    consumer = object.__new__(Consumer)
    consumer.app = SimpleNamespace(consumer_generation_id=1)
    row = ConsumerRecord("t", 0, 7, timestamp, 0, b"k", b"v", None, 1, 1, (("h", b"1"),))
    assert _record(consumer._to_message(TP("t", 0), row)) == record_of(row)
