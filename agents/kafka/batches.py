"""Batches as the broker sends them: header keys of any bytes, and what is known of the offsets between the records.

Kafka calls a header key a string and checks nothing. aiokafka decodes it while it iterates over a batch, and raises:
neither that record nor its neighbours ever come. Here what was fetched is then read again from that batch on, by a
decoder that takes any bytes; all else passes through aiokafka's own, in C.

A fetch answers with all that the log holds from an offset on. So each record says from where on there is nothing before
it (`after`), where offsets have holes: markers of transactions, aborted records, what compaction took.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

LENGTH_AT = 8
OVERHEAD = 12
"""A batch begins with its base offset, and at byte 8 the length of what follows these 12 bytes."""


def read_as_it_is() -> None:
    """For every consumer of this process; aiokafka has no setting for it. Twice is harmless."""
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _Records


def text_of(key: bytes) -> str:
    r"""A header key as text; of bytes that are not UTF-8 each becomes `\xff`, which every topic and terminal takes."""
    return key.decode(errors="backslashreplace")


class _Fetched(MemoryRecords):  # type: ignore[misc]  # aiokafka is untyped
    """What one fetch brought of a partition; aiokafka's own keeps its bytes to itself."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _Records(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a fetch, in order, without those of aborted transactions."""

    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        after = self.next_fetch_offset
        for record in self._unpack():
            record.after = after
            after = record.offset + 1
            yield record

    def _unpack(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:  # `next_fetch_offset` is in the batch at fault, or at its beginning
            self._records = _Batches(self._records.data, self.next_fetch_offset)
            yield from super()._unpack_records()


class _Batches:
    """Batches from the one on that an offset is in. The interface of aiokafka's own."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._batches: Any = MemoryRecords(data)
        self._at = 0
        self._next = self._take()
        while self._next is not None and self._next.next_offset <= offset:
            self._next = self._take()

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return self._next is not None

    def next_batch(self) -> "_Batch | None":
        """The next one. Raises aiokafka's CorruptRecordException for one that is too short to be any."""
        found, self._next = self._next, self._take()
        return found

    def _take(self) -> "_Batch | None":
        if not self._batches.has_next():
            return None
        start, batch = self._at, self._batches.next_batch()
        length = int.from_bytes(self._data[start + LENGTH_AT : start + OVERHEAD], "big")
        self._at += OVERHEAD + length
        return _Batch(batch, memoryview(self._data)[start : self._at])


class _Batch:
    """One batch of aiokafka's, and its bytes."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        passed = -1
        try:
            for record in self._batch:
                passed = record.offset
                yield record
        except UnicodeDecodeError:
            yield from (record for record in records_of(self._data) if record.offset > passed)


def records_of(data: memoryview) -> Iterator[Any]:
    """The records of a batch of format 2, the only one with headers. Their fields are those of aiokafka's."""
    batch: Any = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    buffer, pos = batch._buffer, batch._pos
    for _ in range(batch._num_records):
        length, pos = decode_varint(buffer, pos)
        yield _record(batch, buffer, pos)
        pos += length


def _record(batch: Any, buffer: bytearray, pos: int) -> Any:
    since_first, pos = decode_varint(buffer, pos + 1)  # after the attributes, of which there are none
    timestamp = (batch.first_timestamp + since_first + 2**63) % 2**64 - 2**63  # an int64 that wraps around
    since_base, pos = decode_varint(buffer, pos)
    key, pos = _nullable(buffer, pos)
    value, pos = _nullable(buffer, pos)
    count, pos = decode_varint(buffer, pos)
    headers = []
    for _ in range(count):
        name, pos = _nullable(buffer, pos)
        content, pos = _nullable(buffer, pos)
        headers.append((text_of(name or b""), content))
    return _DefaultRecordPy(
        offset=batch.base_offset + since_base,
        timestamp=batch.max_timestamp if batch.timestamp_type else timestamp,
        timestamp_type=batch.timestamp_type,
        key=key,
        value=value,
        headers=headers,
    )


def _nullable(buffer: bytearray, pos: int) -> tuple[bytes | None, int]:
    length, pos = decode_varint(buffer, pos)
    if length < 0:
        return None, pos
    return bytes(buffer[pos : pos + length]), pos + length
