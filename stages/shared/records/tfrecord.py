"""TFRecord files and `tf.train.Example`, without TensorFlow, whose import takes seconds.

A file is a row of entries, each framed by its length and checksums
(tensorflow/core/lib/io/record_writer.h).
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.message import DecodeError, Message

from stages.shared.runtime.digests import damaged
from stages.shared.runtime.errors import UserError

LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER_BYTES = LENGTH.size + CHECKSUM.size
# tensorflow/core/lib/hash/crc32c.h
MASK_DELTA = 0xA282EAD8


def write(path: Path, entries: Iterable[bytes]) -> None:
    """Write a file of entries; the same entries give the same bytes."""
    with path.open("wb") as file:
        for entry in entries:
            length = LENGTH.pack(len(entry))
            file.write(length + _checksum(length) + entry + _checksum(entry))


def places(path: Path, count: int) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each of the `count` entries of a file.

    Raises:
        UserError: the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(count):
            header = file.read(HEADER_BYTES)
            length = LENGTH.unpack_from(header)[0] if len(header) == HEADER_BYTES else size
            if file.tell() + length + CHECKSUM.size > size:
                raise UserError(damaged(path, f"it ends before its {count} records do"))
            yield file.tell(), length
            file.seek(length + CHECKSUM.size, 1)


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """A `tf.train.Example` of features of one byte string each."""
    example = EXAMPLE()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def decode_example(content: bytes) -> dict[str, bytes]:
    """The features of a `tf.train.Example` of one byte string each.

    Raises:
        ValueError: it is something else.
    """
    try:
        features = EXAMPLE.FromString(content).features.feature
        return {name: feature.bytes_list.value[0] for name, feature in features.items()}
    except (DecodeError, IndexError) as error:
        raise ValueError(str(error)) from None


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return CHECKSUM.pack(((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF)


def _example() -> type[Message]:
    """The class of `tf.train.Example`, with features of byte strings alone.

    Its fields are those of tensorflow/core/example/{example,feature}.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", syntax="proto3")

    def message(name: str, field: str, kind: str | None, repeated: bool = False) -> None:
        file.message_type.add(name=name).field.add(
            name=field,
            number=1,
            label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
            type=Field.TYPE_MESSAGE if kind else Field.TYPE_BYTES,
            type_name=kind,
        )

    message("BytesList", "value", None, repeated=True)
    message("Feature", "bytes_list", ".BytesList")
    message("Features", "feature", ".Features.FeatureEntry", repeated=True)
    message("Example", "features", ".Features")
    entry = file.message_type[2].nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=Field.LABEL_OPTIONAL,
        type=Field.TYPE_MESSAGE,
        type_name=".Feature",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


EXAMPLE = _example()
