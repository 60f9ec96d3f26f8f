"""What Amazon's producer library packs into one record: many, with partition keys of their own.

Magic number, protocol buffers, MD5 of these (the library's `aggregation-format.md`):

    AggregatedRecord  1 partition_key_table: string…, 2 explicit_hash_key_table: string…, 3 records: Record…
    Record            1 partition_key_index, 2 explicit_hash_key_index?, 3 data: bytes, 4 tags…

Whatever is not exactly that is a record by itself, as the client library has it. Unlike there, none is left out because
its key belongs to another shard since: the producer library may send it again then, others do not.
"""

import hashlib
from collections.abc import Iterator

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16
VARINT_BYTES = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _CorruptError(ValueError):
    """It is none, inside this module only."""


def parts(data: bytes) -> list[tuple[str, bytes]] | None:
    """Partition key and data of each record in an aggregate, in its order; None for what is no aggregate."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + DIGEST_BYTES:
        return None
    body, digest = data[len(MAGIC) : -DIGEST_BYTES], data[-DIGEST_BYTES:]
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        return None
    keys: list[str] = []
    records: list[bytes] = []
    try:
        for number, value in _fields(body):
            if number == 1:
                keys.append(_text(value))
            elif number == 3:
                records.append(_bytes(value))
        return [_record(record, keys) for record in records]
    except _CorruptError:
        return None


def _record(body: bytes, keys: list[str]) -> tuple[str, bytes]:
    index: int | bytes | None = None
    data: int | bytes | None = None
    for number, value in _fields(body):
        if number == 1:
            index = value
        elif number == 3:
            data = value
    if not isinstance(index, int) or index >= len(keys) or data is None:
        raise _CorruptError
    return keys[index], _bytes(data)


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; of fixed numbers, which nobody asks for, their bytes."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(body, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(body, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _CorruptError
        if not number or size > len(body) - at:
            raise _CorruptError
        yield number, body[at : at + size]
        at += size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    number = 0
    for place, byte in enumerate(body[at : at + VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise _CorruptError


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _CorruptError
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as exc:
        raise _CorruptError from exc
