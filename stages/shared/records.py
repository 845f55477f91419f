"""TFRecord files of resized pictures and masks, and of predicted masks.

A record is a `tf.train.Example` with the features `name` (UTF-8), `image` (uint8 RGB, height x
width x 3 bytes, rows first) and `mask` (uint8, height x width bytes). The pixels are stored as
they are: nothing is lost and nothing has to be decoded when they are read.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from stages.shared import manifest
from stages.shared.dataset import Dataset, Shard
from stages.shared.errors import UserError

RECORDS_DIR = Path("data/records")
# TFRecord framing (tensorflow/core/lib/io/record_writer.h): length, its checksum, data, checksum.
HEADER = struct.Struct("<QI")
FOOTER_BYTES = 4
# Of a record beside its pixels and its name: framing, and the keys of the example.
OVERHEAD_BYTES = 80


class Record(NamedTuple):
    """A name, a resized picture, uint8 (height, width, 3), and its mask, uint8 (height, width)."""

    name: str
    image: np.ndarray
    mask: np.ndarray


class Batch(NamedTuple):
    """`pictures` records: names, images uint8 (pictures, height, width, 3) and masks uint8."""

    names: list[str]
    images: np.ndarray
    masks: np.ndarray


def size(records: int, image_size: tuple[int, int]) -> int:
    """Bytes that so many records take, without their names."""
    height, width = image_size
    return records * (height * width * 4 + OVERHEAD_BYTES)


def write(path: Path, records: Iterable[Record]) -> None:
    """Write one file of records; the same records give the same bytes."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            features = {
                "name": _bytes(record.name.encode()),
                "image": _bytes(record.image.tobytes()),
                "mask": _bytes(record.mask.tobytes()),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))


def batches(
    shard: Shard, image_size: tuple[int, int], batch_size: int, folder: Path = RECORDS_DIR
) -> Iterator[Batch]:
    """Read one file of records in order, the next batch while the last is worked on.

    Args:
        shard: the file, in `folder`.
        image_size: (height, width) of its pictures.
        batch_size: records in a batch; the last may have fewer.
        folder: of the records.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / shard.file
    manifest.require_whole({path: shard.digest})
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in ("name", "image", "mask")}

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(serialized, spec)
        return {
            "name": raw["name"],
            "image": tf.reshape(tf.io.decode_raw(raw["image"], tf.uint8), (-1, *image_size, 3)),
            "mask": tf.reshape(tf.io.decode_raw(raw["mask"], tf.uint8), (-1, *image_size)),
        }

    dataset = tf.data.TFRecordDataset(str(path)).batch(batch_size).map(parse).prefetch(2)
    try:
        for batch in dataset.as_numpy_iterator():
            names = [name.decode() for name in batch["name"]]
            yield Batch(names, batch["image"], batch["mask"])
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, UnicodeDecodeError) as error:
        raise UserError(manifest.damaged(path, str(error).splitlines()[0])) from None


class PictureReader:
    """Random access to the pictures and masks of one split, read as they are asked for.

    Args:
        dataset: what the records hold.
        split: `train`, `validation` or `test`.
        folder: of the records.

    Attributes:
        classes: their number.

    Raises:
        UserError: a file is damaged.
    """

    def __init__(self, dataset: Dataset, split: str, folder: Path = RECORDS_DIR) -> None:
        self.image_size, self.classes = dataset.image_size, len(dataset.classes)
        shards = {folder / shard.file: shard for shard in dataset.shards[split]}
        manifest.require_whole({path: shard.digest for path, shard in shards.items()})
        self._places = [
            (path, offset, length)
            for path, shard in shards.items()
            for offset, length in places(path, shard.pictures)
        ]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._places)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read some pictures, by their integer indices (pictures,).

        Returns:
            Pictures, uint8 (pictures, height, width, 3), and masks, uint8 (pictures, height,
            width).
        """
        images = np.empty((len(indices), *self.image_size, 3), np.uint8)
        masks = np.empty((len(indices), *self.image_size), np.uint8)
        for image, mask, index in zip(images, masks, indices, strict=True):
            path, offset, length = self._places[index]
            with path.open("rb") as file:
                file.seek(offset)
                content = file.read(length)
            try:
                features = tf.train.Example.FromString(content).features.feature
                for pixels, key in ((image, "image"), (mask, "mask")):
                    stored = np.frombuffer(features[key].bytes_list.value[0], np.uint8)
                    pixels[:] = stored.reshape(pixels.shape)
            except (DecodeError, IndexError, ValueError) as error:
                raise UserError(manifest.damaged(path, str(error))) from None
        return images, masks


def places(path: Path, records: int) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each record's data in a file of so many records.

    Raises:
        UserError: the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(records):
            header = file.read(HEADER.size)
            length = HEADER.unpack(header)[0] if len(header) == HEADER.size else size
            if file.tell() + length + FOOTER_BYTES > size:
                raise UserError(manifest.damaged(path, f"it ends before its {records} records do"))
            yield file.tell(), length
            file.seek(length + FOOTER_BYTES, 1)


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
