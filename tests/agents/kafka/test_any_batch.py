"""Faults 40 and 41 without servers: batches of every kind, as the broker hands them on, out of the consumer again."""

import random

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher

from agents.kafka.batches import read_as_it_is, text_of
from tests.kit.records import CODECS, Baked, bake, batches
from tests.kit.wire import batch_bytes


@pytest.mark.parametrize("codec", CODECS)
def test_every_record_comes_out_as_it_went_in(codec: str) -> None:
    read_as_it_is()
    rng = random.Random(CODECS.index(codec))
    made = [[bake(recipe) for recipe in batch.recipes] for batch in batches(rng, 500, limit=200_000)]
    while made:
        together = [made.pop() for _ in range(min(len(made), rng.randint(1, 5)))]
        expected = [
            (row.key, row.value, tuple((text_of(name), value) for name, value in row.headers), row.timestamp_ms)
            for batch in together
            for row in batch
        ]
        assert fetched(together, codec) == [(offset, *row) for offset, row in enumerate(expected)]


def fetched(made: list[list[Baked]], codec: str) -> list[tuple[object, ...]]:
    """What aiokafka's consumer makes of a fetch of these batches."""
    data, offset = bytearray(), 0
    for batch in made:
        data += offset.to_bytes(8, "big") + batch_bytes(batch, codec)[8:]
        offset += len(batch)
    records = fetcher.PartitionRecords(
        TopicPartition("t", 0), fetcher.MemoryRecords(bytes(data)), [], 0, None, None, True, fetcher.READ_COMMITTED
    )
    return [(row.offset, row.key, row.value, tuple(row.headers), row.timestamp) for row in records]
