"""Rows to records' values, by Confluent's own serializers: run in an environment that has them.

    python serialize.py REGISTRY avro|protobuf|json_schema TOPIC < rows.json

A row is `{"version", "title", "author"}`. Schemas have two versions; the second has another field. What has an author
is in a schema of its own, where the format has such.
"""

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PEOPLE = "org/people.proto"

Serialize = Callable[[dict[str, Any], Any], bytes]


def main(url: str, form: str, topic: str) -> None:
    """One line a row."""
    registry = SchemaRegistryClient({"url": url})
    makes = {"avro": _avro, "protobuf": _protobuf, "json_schema": _json}
    serializers = {version: makes[form](registry, version) for version in (1, 2)}
    context = SerializationContext(topic, MessageField.VALUE)
    for row in json.load(sys.stdin):
        serialize = serializers[row.pop("version")]
        sys.stdout.write(base64.b64encode(serialize(row, context)).decode() + "\n")


def _avro(registry: Any, version: int) -> Serialize:
    person = {"type": "record", "name": "Person", "namespace": "org", "fields": [{"name": "name", "type": "string"}]}
    registry.register_schema("org.Person", Schema(json.dumps(person), "AVRO"))
    fields: list[dict[str, Any]] = [{"name": "title", "type": "string"}, {"name": "author", "type": "org.Person"}]
    fields += [{"name": "pages", "type": "int", "default": 0}] * (version - 1)
    page = {"type": "record", "name": "Page", "namespace": "org", "fields": fields}
    schema = Schema(json.dumps(page), "AVRO", [SchemaReference("org.Person", "org.Person", 1)])
    made: Serialize = AvroSerializer(registry, schema)
    return made


def _json(registry: Any, version: int) -> Serialize:
    person = {"type": "object", "properties": {"name": {"type": "string"}}}
    more = {"pages": {"type": "integer"}} if version == 2 else {}
    properties = {"title": {"type": "string"}, "author": person, **more}
    schema = {"title": "Page", "type": "object", "properties": properties}
    made: Serialize = JSONSerializer(json.dumps(schema), registry)
    return made


def _protobuf(registry: Any, version: int) -> Serialize:
    field = descriptor_pb2.FieldDescriptorProto
    people = descriptor_pb2.FileDescriptorProto(name=PEOPLE, package="org", syntax="proto3")
    people.message_type.add(name="Person").field.add(name="name", number=1, type=field.TYPE_STRING, label=1)
    page = descriptor_pb2.FileDescriptorProto(name="page.proto", package="org", syntax="proto3", dependency=[PEOPLE])
    page.message_type.add(name="Other")
    kind = page.message_type.add(name="Page")
    kind.field.add(name="title", number=1, type=field.TYPE_STRING, label=1)
    kind.field.add(name="author", number=2, type=field.TYPE_MESSAGE, label=1, type_name=".org.Person")
    if version == 2:
        kind.field.add(name="pages", number=3, type=field.TYPE_INT32, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(people)
    pool.Add(page)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("org.Page"))
    serializer = ProtobufSerializer(made, registry)
    return lambda row, context: serializer(made(**row), context)


if __name__ == "__main__":
    main(*sys.argv[1:])
