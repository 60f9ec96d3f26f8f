"""Protobuf schemas as registries have them: descriptors, as Python's clients register them, or texts of .proto files.

A registry gives back what was registered. Asked for a descriptor (`format=serialized`), Apicurio fails where it has
one, and answers with one that cannot be used where it has a text. So protoc makes it here, in a process of its own.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from streams.protobuf import protobuf_reader
from streams.values import Reader

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

TOP = "the-schema-itself.proto"
"""Its name; others have the names that they are imported by."""


def proto_reader(schema: str, references: Mapping[str, str]) -> Reader:
    """`references`: by the name that imports have, each after its own. Raises ValueError for what is none. Blocks."""
    made: list[FileDescriptorProto] = []
    for name, text in (*references.items(), (TOP, schema)):
        file = _described(text) or _compiled(text, made)
        file.name = name
        made.append(file)
    *others, top = (base64.b64encode(file.SerializeToString()).decode() for file in made)
    return protobuf_reader(top, others)


def _described(text: str) -> "FileDescriptorProto | None":
    """None where it is no descriptor."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    try:
        return FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError):
        return None


def _compiled(text: str, imported: "Iterable[FileDescriptorProto]") -> "FileDescriptorProto":
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / TOP).write_text(text)
        (folder / "imported").write_bytes(FileDescriptorSet(file=imported).SerializeToString())
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", TOP]
        command += [f"--descriptor_set_in={folder / 'imported'}", f"--descriptor_set_out={folder / 'made'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            told = " ".join(done.stderr.replace(f"{folder / TOP}:", "").split())
            raise ValueError(f"it is neither a Protobuf descriptor nor a .proto file that protoc takes: {told[:300]}")
        (made,) = FileDescriptorSet.FromString((folder / "made").read_bytes()).file
    return made
