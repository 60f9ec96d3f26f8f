"""Header keys of any bytes: batches as brokers send them, read as a consumer reads them."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch, _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from agents.kafka.batches import read_as_it_is, records_of

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NOT_UTF8 = b"key \xff\xc3("


class Raw(str):
    """A header key of these bytes, for aiokafka's producer in Python."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return NOT_UTF8


def batch(
    offset: int,
    keys: list[str],
    codec: str = "none",
    *,
    first_ms: int = 0,
    appended_ms: int | None = None,
    producer: int | None = None,
) -> bytes:
    """One batch, a record for each header key, a millisecond apart. `producer`: whose transaction it is in."""
    who = -1 if producer is None else producer
    builder = _DefaultRecordBatchBuilderPy(2, CODECS[codec], producer is not None, who, -1, -1, 2**20)
    for number, key in enumerate(keys):
        builder.append(number, number, b"k%d" % number, None if number == 2 else b"v" * 99, [(key, b"h")])
    data = builder.build()
    data[:8] = offset.to_bytes(8, "big")
    data[27:35] = first_ms.to_bytes(8, "big", signed=True)
    if appended_ms is not None:
        data[22] |= DefaultRecordBase.TIMESTAMP_TYPE_MASK
        data[35:43] = appended_ms.to_bytes(8, "big", signed=True)
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


def consumed(data: bytes, position: int = 0, aborted: tuple[tuple[int, int], ...] = ()) -> list[Any]:
    """What a consumer at this position gets of a fetch. `aborted`: producers and first offsets of transactions."""
    part = fetcher.PartitionRecords(
        TopicPartition("t", 0), fetcher.MemoryRecords(data), aborted, position, None, None, True, fetcher.READ_COMMITTED
    )
    return list(part)


@pytest.fixture(autouse=True)
def any_header_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MemoryRecords", "PartitionRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))  # put back afterwards
    read_as_it_is()


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_key_that_is_not_utf8_comes_with_its_neighbours(codec: str) -> None:
    keys = ["a", "b", "c", Raw("d"), "e"]
    data = batch(0, keys, codec) + batch(5, keys, codec) + batch(10, ["f"], codec)
    found = consumed(data, position=1)
    assert [row.offset for row in found] == list(range(1, 11))
    assert [row.headers for row in found if row.offset in (3, 8)] == [(("key \\xff\\xc3(", b"h"),)] * 2
    assert [row.headers for row in found if row.offset in (2, 10)] == [(("c", b"h"),), (("f", b"h"),)]


def test_each_record_says_from_where_on_there_is_nothing_before_it() -> None:
    """Between what was fetched: holes of compaction and transactions. Nothing is said of what is below the fetch."""
    aborted = batch(6, ["x", "y"], producer=7)
    data = batch(3, ["a", "b"]) + aborted + batch(9, ["c"]) + batch(20, ["d", Raw("e")])

    def holes(position: int) -> list[tuple[int, int]]:
        return [(row.after, row.offset) for row in consumed(data, position, aborted=((7, 6),))]

    assert holes(1) == [(1, 3), (4, 4), (5, 9), (10, 20), (21, 21)]
    assert holes(4) == [(4, 4), (5, 9), (10, 20), (21, 21)]
    assert holes(7) == [(7, 9), (10, 20), (21, 21)]


def test_aborted_records_stay_out_after_such_a_header_key() -> None:
    odd = ["a", Raw("b")]
    data = batch(0, odd) + batch(2, odd, producer=7) + batch(4, odd, producer=8) + batch(6, odd)
    assert [row.offset for row in consumed(data, aborted=((7, 2),))] == [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("first_ms", "appended_ms"),
    [(0, None), (-1, None), (1_700_000_000_000_000_001, None), (2**63 - 2, None), (-(2**63), None), (5, 2**63 - 1)],
)
def test_both_decoders_agree(first_ms: int, appended_ms: int | None) -> None:
    """On timestamps of any size too: what is added to the first one of a batch may wrap around."""
    data = batch(7, ["a", "b", "ü", "d", ""], first_ms=first_ms, appended_ms=appended_ms)
    fields = ("offset", "timestamp", "timestamp_type", "key", "value", "headers", "checksum")
    ours, theirs = records_of(memoryview(data)), DefaultRecordBatch(data)
    assert [[getattr(row, name) for name in fields] for row in ours] == [
        [getattr(row, name) for name in fields] for row in theirs
    ]
