"""TFRecord files of `tf.train.Example`, without TensorFlow: the two formats as they are published.

A record is its length, a checksum of that, the bytes, and a checksum of these; the checksums are masked CRC-32C.
(https://www.tensorflow.org/tutorials/load_data/tfrecord; example.proto and feature.proto of TensorFlow.)
"""

import struct
from collections.abc import Iterator
from typing import IO, Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LENGTH = struct.Struct("<Q")
CHECK = struct.Struct("<I")
Row = dict[str, Any]


def _example_class() -> Any:
    """`Example { Features features = 1 }` and so on; the names are those of TensorFlow."""
    file = descriptor_pb2.FileDescriptorProto(name="penstock_example.proto", package="penstock", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, str | None, bool]) -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind, type_name, repeated in fields:
            made.field.add(
                name=label,
                number=number,
                type=kind,
                type_name=type_name,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
        return made

    message("BytesList", ("value", 1, field.TYPE_BYTES, None, True))
    message("FloatList", ("value", 1, field.TYPE_FLOAT, None, True))
    message("Int64List", ("value", 1, field.TYPE_INT64, None, True))
    message(
        "Feature",
        ("bytes_list", 1, field.TYPE_MESSAGE, ".penstock.BytesList", False),
        ("float_list", 2, field.TYPE_MESSAGE, ".penstock.FloatList", False),
        ("int64_list", 3, field.TYPE_MESSAGE, ".penstock.Int64List", False),
    )
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".penstock.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".penstock.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    message("Example", ("features", 1, field.TYPE_MESSAGE, ".penstock.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("penstock.Example"))


Example = _example_class()


def example_of(row: Row) -> bytes:
    """Texts as bytes, whole numbers as int64, the vector as floats."""
    example = Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.extend(value.tolist())
    return bytes(example.SerializeToString(deterministic=True))


def row_of_example(data: bytes) -> Row:
    """Inverse of `example_of`."""
    row: Row = {}
    for name, feature in Example.FromString(data).features.feature.items():
        if feature.HasField("bytes_list"):
            row[name] = feature.bytes_list.value[0].decode()
        elif feature.HasField("int64_list"):
            row[name] = feature.int64_list.value[0]
        else:
            row[name] = np.asarray(feature.float_list.value, dtype=np.float32)
    return row


def record_of_example(data: bytes) -> bytes:
    """As it stands in a file."""
    length = LENGTH.pack(len(data))
    return length + CHECK.pack(_masked(length)) + data + CHECK.pack(_masked(data))


def read_examples(opened: IO[bytes]) -> Iterator[bytes]:
    """All of a file. Raises ValueError where it breaks off, or a checksum is wrong."""
    while length := opened.read(LENGTH.size):
        check, size = opened.read(CHECK.size), LENGTH.unpack(length)[0] if len(length) == LENGTH.size else 0
        if check != CHECK.pack(_masked(length)):
            raise ValueError("a record of the TFRecord file has a wrong length")
        data = opened.read(size)
        if len(data) < size or opened.read(CHECK.size) != CHECK.pack(_masked(data)):
            raise ValueError("a record of the TFRecord file is damaged")
        yield data


def _masked(data: bytes) -> int:
    found = int(google_crc32c.value(data))
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF
