"""What the bytes of a record say: JSON, or what a schema says, whose id a registry's client has put before them.

    0x00 ─ 4 bytes: the schema's id, big-endian ─ what was encoded with it

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streams.record import json_of

FRAME_BYTES = 5
MAX_ID = 2**31 - 1
Reader = Callable[[bytes], Any]
"""What was encoded with one schema, without the frame, as JSON would have it. Raises ValueError."""


class Values(Protocol):
    """Reads values, and keys that are not plain text."""

    def is_encoded(self, key: bytes) -> bool:
        """Whether a key is to be `read`, and is no plain text."""

    def schema_id(self, data: bytes | None) -> int | None:
        """The schema that `read` needs; None where it needs none."""

    def read(self, data: bytes) -> Any:
        """As JSON would have it. Raises ValueError with the reason."""


class JsonValues:
    """JSON in UTF-8."""

    def __init__(self, *, framed: bool = False) -> None:
        """`framed`: behind the id of a JSON schema, which nobody needs to read it."""
        self._framed = framed

    def is_encoded(self, key: bytes) -> bool:
        """Behind the id of a schema."""
        return self._framed and _number(key) is not None

    def schema_id(self, _: bytes | None) -> int | None:
        """None."""
        return None

    def read(self, data: bytes) -> Any:
        """Any JSON value."""
        if self._framed and _number(data) is None:
            raise ValueError(_unframed("json_schema"))
        return json_of(data[FRAME_BYTES:] if self._framed else data)


class FramedValues:
    """What is behind a schema's id. `readers`: by it; a text says why there is none. They may be added meanwhile."""

    def __init__(self, name: str, readers: Mapping[int, Reader | str]) -> None:
        """`name`: of the format, for messages."""
        self._name = name
        self._readers = readers

    def is_encoded(self, key: bytes) -> bool:
        """Behind the id of a schema."""
        return _number(key) is not None

    def schema_id(self, data: bytes | None) -> int | None:
        """Of the frame; None without one."""
        return _number(data)

    def read(self, data: bytes) -> Any:
        """By the reader of its schema."""
        number = self.schema_id(data)
        if number is None:
            raise ValueError(_unframed(self._name))
        reader = self._readers.get(number, f"schema {number} was not asked for")
        if isinstance(reader, str):
            raise ValueError(reader)
        return reader(data[FRAME_BYTES:])


def _number(data: bytes | None) -> int | None:
    if data is None or len(data) < FRAME_BYTES or data[0]:
        return None
    number = int.from_bytes(data[1:FRAME_BYTES], "big")
    return number if number <= MAX_ID else None


def _unframed(name: str) -> str:
    return f"no schema's id is before the value, a zero byte and four more, as source.format = {name!r} has it"
