"""Protobuf to what JSON would have: names as in the schema, enums by name, bytes in base64, times in ISO 8601."""

import base64
from collections.abc import Sequence
from math import isfinite
from typing import Any

from streams.values import Reader

MAX_INDEXES = 100
"""Of messages inside of messages, on the way to the one that a record has."""


def protobuf_reader(schema: str, references: Sequence[str] = ()) -> Reader:
    """Of a file's descriptor, in base64 as a registry has it, and of those that it imports, each after its own imports.

    Raises ValueError for what is none.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError

    pool = descriptor_pool.DescriptorPool()
    try:
        for module in _well_known():
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        for one in [*references, schema]:
            file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(one, validate=True))
            pool.Add(file)
        top = pool.FindFileByName(file.name)
    except (ValueError, TypeError, KeyError, DecodeError) as exc:
        raise ValueError(f"it is no Protobuf descriptor that can be read: {' '.join(str(exc).split())[:200]}") from exc
    names = [message.name for message in file.message_type]
    if not names:
        raise ValueError("it is no Protobuf descriptor that can be read: it has no message")

    def read(data: bytes) -> Any:
        path, at = _indexes(data)
        try:
            kind = top.message_types_by_name[names[path[0]]]
            for number in path[1:]:
                kind = kind.nested_types[number]
            message = message_factory.GetMessageClass(kind).FromString(data[at:])
        except (IndexError, DecodeError) as exc:
            raise ValueError(f"the value is not of its Protobuf schema: {exc}") from exc
        return _plain(message)

    return read


def _well_known() -> list[Any]:
    from google.protobuf import (
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    return [any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2]


def _indexes(data: bytes) -> tuple[list[int], int]:
    """Which message of the file it is, as a path, and where it begins: zigzag varints after their number; 0 is [0]."""
    count, at = _varint(data, 0)
    if not 0 <= count <= MAX_INDEXES:
        raise ValueError("the value is not of its Protobuf schema: no message's index is before it")
    path = []
    for _ in range(count):
        number, at = _varint(data, at)
        if number < 0:
            raise ValueError("the value is not of its Protobuf schema: a message's index is negative")
        path.append(number)
    return path or [0], at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(data) and shift < 64:
        found |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return (found >> 1) ^ -(found & 1), at + 1
        at, shift = at + 1, shift + 7
    raise ValueError("the value is not of its Protobuf schema: it ends too early")


def _plain(message: Any) -> Any:
    from google.protobuf import json_format

    if message.DESCRIPTOR.full_name == "google.protobuf.Any":
        return _any(message)
    if message.DESCRIPTOR.file.package == "google.protobuf":
        try:
            return json_format.MessageToDict(message)
        except (json_format.Error, ValueError, TypeError) as exc:
            raise ValueError(f"the value has a {message.DESCRIPTOR.name} that is none: {exc}") from exc
    made: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            made[field.name] = {str(name): _scalar(inner, value[name]) for name in value}
        elif field.is_repeated:
            made[field.name] = [_scalar(field, one) for one in value]
        else:
            made[field.name] = _scalar(field, value)
    return made


def _any(message: Any) -> Any:
    """Beside the fields of its message their type, as in JSON; of a type that no schema here has, its bytes."""
    from google.protobuf import message_factory
    from google.protobuf.message import DecodeError

    told = {"@type": message.type_url}
    try:
        kind = message.DESCRIPTOR.file.pool.FindMessageTypeByName(message.type_url.rpartition("/")[2])
        made = _plain(message_factory.GetMessageClass(kind).FromString(message.value))
    except (KeyError, DecodeError):
        return told | {"value": base64.b64encode(message.value).decode()}
    return told | (made if isinstance(made, dict) else {"value": made})


def _scalar(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
