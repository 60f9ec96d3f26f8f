"""Avro and Protobuf to what JSON would have; and bytes that are of no schema, or another one."""

import base64
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import orjson
import pytest
from google.protobuf import any_pb2, descriptor_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from streams.avro import avro_reader
from streams.form import ForeignForm
from streams.mapping import Mapper, Rules
from streams.protobuf import protobuf_reader
from streams.record import Document, Record, Rejected
from streams.values import FramedValues, JsonValues, Reader

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Page",
    "fields": [
        {"name": "title", "type": "string"},
        {"name": "body", "type": ["null", "string"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "updated", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "raw", "type": "bytes"},
        {"name": "score", "type": "double"},
        {"name": "author", "type": "org.Person"},
    ],
}
PERSON = {"type": "record", "name": "org.Person", "fields": [{"name": "name", "type": "string"}]}
PAGE = {
    "title": "Locks",
    "body": "A lock has two gates.",
    "tags": ["a", "b"],
    "updated": datetime(2026, 9, 21, 14, 13, tzinfo=UTC),
    "day": date(2026, 9, 21),
    "price": Decimal("12.50"),
    "raw": b"\x00\xff",
    "score": float("nan"),
    "author": {"name": "A. Keeper"},
}


def encoded(value: dict[str, Any]) -> bytes:
    named: dict[str, Any] = {}
    fastavro.parse_schema(PERSON, named_schemas=named)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA, named_schemas=named), value)
    return stream.getvalue()


def page_reader() -> Reader:
    return avro_reader(orjson.dumps(SCHEMA).decode(), [orjson.dumps(PERSON).decode()])


def test_avro_with_logical_types_and_a_reference() -> None:
    found = page_reader()(encoded(PAGE))
    assert found == {
        **PAGE,
        "updated": "2026-09-21T14:13:00+00:00",
        "day": "2026-09-21",
        "price": "12.50",
        "raw": base64.b64encode(b"\x00\xff").decode(),
        "score": None,
    }
    orjson.dumps(found)


@given(st.binary(max_size=200) | st.integers(0, 60).map(lambda cut: encoded(PAGE)[:cut]))
def test_bytes_of_no_schema_are_an_error_with_a_reason(data: bytes) -> None:
    read = page_reader()
    try:
        orjson.dumps(read(data))
    except ValueError as exc:
        told = str(exc)
    else:
        told = "not of its Avro schema"
    assert "not of its Avro schema" in told


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ("{", "no Avro schema"),
        ('{"type": "record", "name": "A", "fields": [{"name": "b", "type": "org.B"}]}', "no Avro schema"),
        ('{"type": "array", "items": "null"}', "may have any length"),
        ('{"type": "array", "items": {"type": "record", "name": "E", "fields": []}}', "may have any length"),
    ],
)
def test_schemas_that_are_none(schema: str, part: str) -> None:
    with pytest.raises(ValueError, match=".*") as told:
        avro_reader(schema)
    assert part in str(told.value)


@pytest.mark.parametrize(
    "through", [{"type": "array", "items": "a.Tree"}, ["null", "Tree"], {"type": "map", "values": "Tree"}]
)
def test_a_schema_that_is_inside_of_itself_is_refused(through: Any) -> None:
    """A value of 200 KB ends the process: the library goes down as deep as it is nested."""
    fields = [{"name": "v", "type": "int"}, {"name": "c", "type": through}]
    tree = {"type": "record", "name": "Tree", "namespace": "a", "fields": fields}
    with pytest.raises(ValueError, match=r"a\.Tree is inside of itself"):
        avro_reader(orjson.dumps(tree).decode())


def file_of() -> descriptor_pb2.FileDescriptorProto:
    """message Other {} message Page { message Inner { string name = 1; } … }"""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="page.proto", package="org", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Other")
    page = file.message_type.add(name="Page")
    page.nested_type.add(name="Inner").field.add(name="name", number=1, type=field.TYPE_STRING, label=1)
    entry = page.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=field.TYPE_INT64, label=1)
    kind = page.enum_type.add(name="Kind")
    kind.value.add(name="DRAFT", number=0)
    kind.value.add(name="PUBLIC", number=1)
    page.field.add(name="title", number=1, type=field.TYPE_STRING, label=1)
    page.field.add(name="tags", number=2, type=field.TYPE_STRING, label=3)
    page.field.add(name="inner", number=3, type=field.TYPE_MESSAGE, label=1, type_name=".org.Page.Inner")
    page.field.add(name="kind", number=4, type=field.TYPE_ENUM, label=1, type_name=".org.Page.Kind")
    page.field.add(name="updated", number=5, type=field.TYPE_MESSAGE, label=1, type_name=".google.protobuf.Timestamp")
    page.field.add(name="counts", number=6, type=field.TYPE_MESSAGE, label=3, type_name=".org.Page.CountsEntry")
    page.field.add(name="raw", number=7, type=field.TYPE_BYTES, label=1)
    return file


def page_message() -> Any:
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file_of())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("org.Page"))
    message: Any = kind(title="Locks", tags=["a"], kind=1, raw=b"\xff")
    message.inner.name = "A. Keeper"
    message.counts["gates"] = 2
    message.updated.FromJsonString("2026-09-21T14:13:00Z")
    return message


def descriptor() -> str:
    return base64.b64encode(file_of().SerializeToString()).decode()


def test_protobuf_by_descriptors() -> None:
    read = protobuf_reader(descriptor())
    assert read(b"\x02\x02" + page_message().SerializeToString()) == {
        "title": "Locks",
        "tags": ["a"],
        "inner": {"name": "A. Keeper"},
        "kind": "PUBLIC",
        "updated": "2026-09-21T14:13:00Z",
        "counts": {"gates": 2},
        "raw": "/w==",
    }
    assert read(b"\x00") == {}, "the first message"
    inner = page_message().inner.SerializeToString()
    assert read(b"\x04\x02\x00" + inner) == {"name": "A. Keeper"}


def test_a_protobuf_value_of_any_type() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="any.proto", package="org", syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")
    extra = file.message_type.add(name="Doc").field.add(name="extra", number=1, label=1)
    extra.type, extra.type_name = extra.TYPE_MESSAGE, ".google.protobuf.Any"
    note = file.message_type.add(name="Note").field.add(name="note", number=1, label=1)
    note.type = note.TYPE_STRING
    read = protobuf_reader(base64.b64encode(file.SerializeToString()).decode())
    for url, value, made in [
        ("type.googleapis.com/org.Note", b"\x0a\x01n", {"note": "n"}),
        ("type.googleapis.com/google.protobuf.Timestamp", b"\x08\x01", {"value": "1970-01-01T00:00:01Z"}),
        ("type.googleapis.com/other.Thing", b"\x08\x01", {"value": "CAE="}),
        ("type.googleapis.com/org.Note", b"\xff", {"value": "/w=="}),
        ("", b"", {"value": ""}),
    ]:
        any_ = any_pb2.Any(type_url=url, value=value).SerializeToString()
        assert read(b"\x00\x0a" + bytes([len(any_)]) + any_) == {"extra": {"@type": url, **made}}


@given(st.binary(max_size=60))
def test_bytes_of_no_protobuf_schema_are_an_error(data: bytes) -> None:
    try:
        orjson.dumps(protobuf_reader(descriptor())(data))
    except ValueError as exc:
        told = str(exc)
    else:
        told = "Protobuf schema"
    assert "Protobuf schema" in told or "is none" in told


def test_descriptors_that_are_none() -> None:
    for schema in ("syntax = 'proto3';", base64.b64encode(b"\xff\xff").decode(), ""):
        with pytest.raises(ValueError, match="no Protobuf descriptor"):
            protobuf_reader(schema)


def record(key: bytes | None, value: bytes | None) -> Record:
    return Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=key, value=value)


def framed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + data


def test_forms_of_every_encoding() -> None:
    readers: dict[int, Reader | str] = {1: page_reader(), 2: "schema 2 is unknown", 3: avro_reader('"string"')}
    form = ForeignForm(FramedValues("avro", readers), Mapper(Rules(text="{title}: {body}", timestamp="updated")))
    found = form.decode(record(framed(3, b"\x04k1"), framed(1, encoded(PAGE))))
    assert isinstance(found, Document), found
    assert (found.id, found.text) == ("k1", "Locks: A lock has two gates.")
    for value, part in (
        (framed(2, b""), "schema 2 is unknown"),
        (framed(9, b""), "schema 9 was not asked for"),
        (b"{}", "no schema's id is before the value"),
        (framed(1, b"\x01"), "not of its Avro schema"),
    ):
        bad = form.decode(record(b"k2", value))
        assert isinstance(bad, Rejected)
        assert part in bad.message
        assert form.doc_id(record(b"k2", value)) == "k2", "of which document is known all the same"
    plain = ForeignForm(JsonValues(framed=True), None)
    assert isinstance(plain.decode(record(b"k", framed(1, b'{"text": "a", "title": null}'))), Document)
    assert isinstance(plain.decode(record(b"k", b'{"text": "a"}')), Rejected)
    assert isinstance(plain.decode(record(None, framed(1, b'{"text": "a"}'))), Rejected)
    keys = [framed(number, b'"doc-1"') for number in (5, 6)]
    ids = {plain.doc_id(record(key, framed(1, b'{"text": "a"}'))) for key in keys}
    assert ids == {"doc-1"}, "whatever schema the key has"
    assert FramedValues("avro", {}).schema_id(b"\0\xff\xff\xff\xffabc") is None, "no registry has so many"
    deletion = plain.decode(record(b"k", None))
    assert isinstance(deletion, Document)
    assert (deletion.id, deletion.text) == ("k", None)
