"""A record as Faust's consumer hands it on is the record as the broker gave it."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from agents.kafka.reader import record_of
from agents.worker.app import _record
from agents.worker.consumer import Consumer


@pytest.mark.parametrize(
    "timestamp", [-1, 0, 1_700_000_000_123, 1_700_000_000_000_000_001, 2**53 + 1, 2**63 - 1, -(2**63)]
)
def test_timestamps_of_any_size_are_kept_exactly(timestamp: int) -> None:
    """A claim holds the last record's timestamp: one that differs from the log's is refused at the next start."""
    consumer = object.__new__(Consumer)
    consumer.app = SimpleNamespace(consumer_generation_id=1)
    row = ConsumerRecord("t", 0, 7, timestamp, 0, b"k", b"v", None, 1, 1, (("h", b"1"),))
    row.after = 5
    message = consumer._to_message(TP("t", 0), row)
    assert (_record(message), message.after) == (record_of(row), 5)


@pytest.mark.parametrize("acked", [[7, 8, 9], [9], [2_000, 9, 2_001], [10**12, 5]])
def test_what_is_committed_follows_what_is_acked_over_every_hole(acked: list[int]) -> None:
    """Of transactions, of compaction (a million million offsets), and of what retention took; nothing is kept."""
    consumer, tp = object.__new__(Consumer), TP("t", 0)
    consumer._committed_offset = {tp: 7}
    consumer._acked, consumer._acked_index = {tp: list(acked)}, {tp: set(acked)}
    asyncio.run(consumer._add_gap(tp, 10, 10**12))
    assert consumer._new_offset(tp) == max(acked) + 1
    assert (consumer._acked, consumer._acked_index, consumer._new_offset(tp)) == ({tp: []}, {tp: set()}, None)
