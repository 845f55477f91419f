"""TFRecord files and `tf.train.Example`, without TensorFlow, whose import takes seconds.

A file is a row of entries, each framed by its length and checksums
(tensorflow/core/lib/io/record_writer.h).
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import google_crc32c
from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from stages.shared.runtime.digests import damaged, require_whole
from stages.shared.runtime.errors import UserError

LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER_BYTES = LENGTH.size + CHECKSUM.size
# tensorflow/core/lib/hash/crc32c.h
MASK_DELTA = 0xA282EAD8
# tensorflow/core/example/{example,feature}.proto, for features of byte strings alone.
PROTO = """
name: "example.proto" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type_name: ".BytesList" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: ".Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type_name: ".Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type_name: ".Features" } }
"""
POOL = descriptor_pool.DescriptorPool()
POOL.Add(text_format.Parse(PROTO, FileDescriptorProto()))
EXAMPLE = message_factory.GetMessageClass(POOL.FindMessageTypeByName("Example"))

Entry = TypeVar("Entry")


def write(path: Path, entries: Iterable[bytes]) -> int:
    """Write a file of entries, and count them; the same entries give the same bytes."""
    count = 0
    with path.open("wb") as file:
        for entry in entries:
            count += 1
            length = LENGTH.pack(len(entry))
            file.write(length + _checksum(length) + entry + _checksum(entry))
    return count


class Entries(Generic[Entry]):
    """Random access to the entries of a file, which is checked when the first is read.

    Args:
        path: of the file.
        count: of its entries.
        digest: of it.
        decode: an entry's content to what it stands for; raises ValueError if it is something else.
    """

    def __init__(
        self, path: Path, count: int, digest: str, decode: Callable[[bytes], Entry]
    ) -> None:
        self.path, self.count, self.digest, self.decode = path, count, digest, decode
        # Of several threads, one checks the file.
        self._lock = Lock()
        self._places: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Number of entries."""
        return self.count

    def __getitem__(self, index: int) -> Entry:
        """Read one entry.

        Raises:
            UserError: the file is damaged.
        """
        with self._lock:
            if not self._places:
                require_whole({self.path: self.digest})
                self._places = list(places(self.path, self.count))
        offset, length = self._places[index]
        with self.path.open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        try:
            return self.decode(content)
        except ValueError as error:
            raise UserError(damaged(self.path, str(error))) from None


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
