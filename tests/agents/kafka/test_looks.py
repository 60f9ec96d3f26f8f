"""Whether a topic is still the log that claims are about is asked all the time; its records are read once a minute."""

import asyncio
from collections.abc import Mapping

import pytest

from agents.kafka.claims import Looks
from streams.claim import Claim, Fingerprint
from streams.errors import RefusedError
from streams.memory import MemoryLog
from streams.record import Record


def record(partition: int, offset: int, value: bytes = b"v") -> Record:
    return Record(topic="t", partition=partition, offset=offset, timestamp_ms=1, key=b"k", value=value, headers=())


def claim(partition: int, offset: int) -> Claim:
    return Claim(offset=offset, sink="sink", record=Fingerprint.of(record(partition, offset)))


class Log(MemoryLog):
    """Notes which single records are read."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.read: list[dict[int, int]] = []

    async def records_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, Record]:
        if offsets:
            self.read.append(dict(offsets))
        return await super().records_at(topic, offsets)


def test_a_spare_worker_reads_the_records_of_moving_claims_once_a_minute() -> None:
    """More workers than partitions: one that has none looks at the claims of the others, which move all the time."""

    async def scenario() -> None:
        now = 0.0
        log, looks = Log(2), Looks(lambda: now)
        for offset in range(12):
            for partition, kept in enumerate(log.partitions):
                kept.append(record(partition, offset))
            await looks.require_same_log(log, "t", {partition: claim(partition, offset) for partition in [0, 1]})
            now += 6
        assert log.read == [{0: 0, 1: 0}, {0: 10, 1: 10}]

    asyncio.run(scenario())


def test_a_log_that_ends_below_a_claim_is_found_at_once() -> None:
    async def scenario() -> None:
        log, looks = Log(1), Looks(lambda: 0.0)
        looks.note([0])
        with pytest.raises(RefusedError, match="the log ends at 0"):
            await looks.require_same_log(log, "t", {0: claim(0, 5)})
        assert log.read == []

    asyncio.run(scenario())
