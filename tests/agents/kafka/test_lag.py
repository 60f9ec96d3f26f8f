"""Which claims count for the lag."""

import asyncio
from typing import Any

import pytest

from agents.kafka import lag
from agents.kafka.lag import partition_rows
from agents.settings import Settings
from streams.claim import Claim
from streams.epochs import History
from streams.memory import MemoryLog
from streams.record import Record


@pytest.mark.parametrize(
    ("sink", "log", "lags"),
    [
        ("s", None, [0, 2, 2]),
        ("other", None, [2, 2, 2]),
        (None, None, [0, 2, 0]),  # as they stand
        (None, "cluster/topic", [0, 2, 0]),
        (None, "cluster/made-anew", [2, 2, 0]),  # of what does not know its log nothing better is known
    ],
)
def test_claims_count_about_this_index_and_this_log(
    monkeypatch: pytest.MonkeyPatch, sink: str | None, log: str | None, lags: list[int]
) -> None:
    topic = MemoryLog(3)
    for partition in topic.partitions:
        for offset in range(2):
            partition.append(Record(topic="documents", partition=0, offset=offset, timestamp_ms=0, key=b"k", value=b""))
    history = History(log="cluster/topic", partitions=3, cuts=[])
    claims = {
        0: Claim(offset=1, sink="s", record=None, history=history),
        2: Claim(offset=1, sink="before", record=None),
    }

    async def read_claims(*_: Any) -> dict[int, Claim]:
        return claims

    monkeypatch.setattr(lag, "read_claims", read_claims)
    rows = asyncio.run(partition_rows(topic, Settings(), 3, sink, log))  # type: ignore[arg-type]
    assert [row["lag"] for row in rows] == lags
