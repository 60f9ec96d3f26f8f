"""Protobuf schemas in either way that a registry may have them, mixed, with what they import."""

import base64
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from agents.schemas.protoc import proto_reader

NAMES = ("org/person.proto", "../team.proto")
"""As imports have them: one of them leads out of any folder."""
PERSON = 'syntax = "proto3";\npackage org;\nmessage Person { string name = 1; }'
TEAM = f'syntax = "proto3";\npackage org;\nimport "{NAMES[0]}";\nmessage Team {{ repeated Person members = 1; }}'
PAGE = f"""syntax = "proto3";
package org;
import "{NAMES[1]}";
import "google/protobuf/timestamp.proto";
message Other {{}}
message Page {{
  enum Kind {{ DRAFT = 0; PUBLIC = 1; }}
  string title = 1;
  Team team = 2;
  Kind kind = 3;
  google.protobuf.Timestamp updated = 4;
  map<string, int64> counts = 5;
}}"""
TEXTS = (PERSON, TEAM, PAGE)


def files() -> list[FileDescriptorProto]:
    """The same three, as a program has them that was compiled with protoc."""
    field = descriptor_pb2.FieldDescriptorProto
    person = FileDescriptorProto(name=NAMES[0], package="org", syntax="proto3")
    person.message_type.add(name="Person").field.add(name="name", number=1, type=field.TYPE_STRING, label=1)
    team = FileDescriptorProto(name=NAMES[1], package="org", syntax="proto3", dependency=[NAMES[0]])
    members = team.message_type.add(name="Team").field.add(name="members", number=1, label=3)
    members.type, members.type_name = field.TYPE_MESSAGE, ".org.Person"
    page = FileDescriptorProto(name="page.proto", package="org", syntax="proto3")
    page.dependency.extend([NAMES[1], "google/protobuf/timestamp.proto"])
    page.message_type.add(name="Other")
    kind = page.message_type.add(name="Page")
    kind.field.add(name="title", number=1, type=field.TYPE_STRING, label=1)
    kind.field.add(name="team", number=2, type=field.TYPE_MESSAGE, label=1, type_name=".org.Team")
    kind.field.add(name="updated", number=4, type=field.TYPE_MESSAGE, label=1, type_name=".google.protobuf.Timestamp")
    return [person, team, page]


def encoded(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def value() -> bytes:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    for file in files():
        pool.Add(file)
    page: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("org.Page"))(title="Locks")
    page.team.members.add(name="A. Keeper")
    page.updated.FromJsonString("2026-09-21T14:13:00Z")
    return b"\x02\x02" + bytes(page.SerializeToString())


@pytest.mark.parametrize("compiled", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_texts_and_descriptors_may_import_each_other(compiled: tuple[int, ...]) -> None:
    given = [
        encoded(file) if n in compiled else text for n, (file, text) in enumerate(zip(files(), TEXTS, strict=True))
    ]
    read = proto_reader(given[2], dict(zip(NAMES, given, strict=False)))
    found = read(value())
    assert found.pop("kind", "DRAFT") == "DRAFT"
    assert found.pop("counts", {}) == {}
    assert found == {"title": "Locks", "team": {"members": [{"name": "A. Keeper"}]}, "updated": "2026-09-21T14:13:00Z"}


def test_a_text_that_is_none_says_where() -> None:
    with pytest.raises(ValueError, match=r'protoc takes: 2:16: "strin" is not defined'):
        proto_reader('syntax = "proto3";\nmessage Page { strin title = 1; }', {})
    with pytest.raises(ValueError, match=r'Import "../team.proto" was not found'):
        proto_reader(PAGE, {})
    with pytest.raises(ValueError, match="it has no message"):
        proto_reader('syntax = "proto3";', {})
