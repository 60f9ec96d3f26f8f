"""Records as Amazon's producer library aggregates them."""

import hashlib
from collections.abc import Sequence

MAGIC = b"\xf3\x89\x9a\xc2"


def aggregate(records: Sequence[tuple[str, bytes]], *, hash_keys: bool = False) -> bytes:
    """One record of many, by partition key and data. `hash_keys`: each has an explicit one, too, and a tag."""
    keys = list(dict.fromkeys(key for key, _ in records))
    body = b"".join(_bytes(1, key.encode()) for key in keys)
    body += _bytes(2, b"340282366920938463463374607431768211455") if hash_keys else b""
    for key, data in records:
        inside = _number(1, keys.index(key)) + (_number(2, 0) if hash_keys else b"") + _bytes(3, data)
        inside += _bytes(4, _bytes(1, b"tag")) if hash_keys else b""
        body += _bytes(3, inside)
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
