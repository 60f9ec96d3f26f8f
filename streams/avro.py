"""Avro to what JSON would have: logical types as texts, bytes in base64."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

import orjson

from streams.values import Reader

BROKEN = (ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, ArithmeticError, RecursionError)
"""What the library raises for bytes that are not of a schema."""


def avro_reader(schema: str, references: Sequence[str] = ()) -> Reader:
    """Of a schema, and those that it names, each after what it names itself. Raises ValueError for what is none."""
    from fastavro import parse_schema, schemaless_reader
    from fastavro.schema import SchemaParseException

    named: dict[str, Any] = {}
    try:
        for one in references:
            parse_schema(orjson.loads(one), named_schemas=named)
        parsed = parse_schema(orjson.loads(schema), named_schemas=named)
        _least_bytes(parsed, named, frozenset())
    except (SchemaParseException, *BROKEN) as exc:
        raise ValueError(f"it is no Avro schema that can be read: {_short(exc)}") from exc

    def read(data: bytes) -> Any:
        stream = io.BytesIO(data)
        try:
            found = _plain(schemaless_reader(stream, parsed, None))
        except (SchemaParseException, *BROKEN) as exc:
            raise ValueError(f"the value is not of its Avro schema: {_short(exc)}") from exc
        if stream.tell() != len(data):
            raise ValueError(f"the value is not of its Avro schema: {len(data) - stream.tell()} bytes are left over")
        return found

    return read


def _least_bytes(schema: Any, named: Mapping[str, Any], inside: frozenset[str]) -> int:
    """Of a value, as far as it matters. Raises ValueError where nothing bounds a value that has few bytes.

    A list whose items have none may have any length. What is inside of itself may be nested as deep as it likes, and
    the library, which is in C, would overflow the stack: nobody could catch that.
    """
    if isinstance(schema, list):
        return 1 + min((_least_bytes(one, named, inside) for one in schema), default=0)
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, dict | list):
        return _least_bytes(kind, named, inside)
    if kind == "null":
        return 0
    if kind == "array" and not _least_bytes(schema["items"], named, inside):
        raise ValueError("a list whose items have no bytes may have any length")
    if kind == "map":
        _least_bytes(schema["values"], named, inside)
    if kind in ("record", "error"):
        if schema["name"] in inside:
            raise ValueError(f"{schema['name']} is inside of itself: its values may be nested as deep as they like")
        within = inside | {schema["name"]}
        return sum(_least_bytes(field["type"], named, within) for field in schema["fields"])
    return int(schema["size"]) if kind == "fixed" else 1


def _plain(root: Any) -> Any:
    if isinstance(root, dict):
        return {str(name): _plain(value) for name, value in root.items()}
    if isinstance(root, list | tuple):
        return [_plain(value) for value in root]
    if isinstance(root, float):
        return root if isfinite(root) else None
    if isinstance(root, bytes | bytearray | memoryview):
        return base64.b64encode(root).decode()
    if isinstance(root, datetime | date | time):
        return root.isoformat()
    if isinstance(root, Decimal | UUID):
        return str(root)
    return root


def _short(exc: BaseException) -> str:
    return " ".join(f"{type(exc).__name__} {exc}".split())[:200]
