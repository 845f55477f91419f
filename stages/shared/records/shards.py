"""data/records/: TFRecord files of resized pictures and masks.

A record is a `tf.train.Example` with the features `name` (UTF-8), `image` (uint8 RGB, height x
width x 3 bytes, rows first) and `mask` (uint8, height x width bytes). The pixels are stored as
they are: nothing is lost and nothing has to be decoded when they are read.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.shared.records import tfrecord
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.runtime.paths import RECORDS_DIR

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


def bytes_of(records: int, image_size: tuple[int, int]) -> int:
    """Bytes that so many records take, without their names."""
    height, width = image_size
    return records * (height * width * 4 + OVERHEAD_BYTES)


def write(path: Path, records: Iterable[Record]) -> int:
    """Write one file of records, and count them; the same records give the same bytes."""
    return tfrecord.write(path, map(encode, records))


def encode(record: Record) -> bytes:
    """A record as it is stored."""
    name, image, mask = record
    return tfrecord.encode_example(
        {"name": name.encode(), "image": image.tobytes(), "mask": mask.tobytes()}
    )


def decode(content: bytes, image_size: tuple[int, int]) -> Record:
    """A stored record, its pictures of (height, width) pixels.

    Raises:
        ValueError: it is no such record.
    """
    features = tfrecord.decode_example(content)
    try:
        image, mask = (np.frombuffer(features[key], np.uint8) for key in ("image", "mask"))
        name = features["name"].decode()
    except KeyError as error:
        raise ValueError(f"a record has no {error}") from None
    return Record(name, image.reshape(*image_size, 3), mask.reshape(image_size))


def entries(shard: Shard, image_size: tuple[int, int], folder: Path) -> tfrecord.Entries[Record]:
    """Random access to a shard's records, its pictures of (height, width) pixels."""
    decoded = partial(decode, image_size=image_size)
    return tfrecord.Entries(folder / shard.file, shard.pictures, shard.digest, decoded)


def batches(
    shard: Shard, image_size: tuple[int, int], batch_size: int, folder: Path = RECORDS_DIR
) -> Iterator[Batch]:
    """Read one file of records in order, the next batches while the last is worked on.

    Args:
        shard: the file, in `folder`.
        image_size: (height, width) of its pictures.
        batch_size: records in a batch; the last may have fewer.
        folder: of the records.

    Raises:
        UserError: the file is damaged.
    """
    records = entries(shard, image_size, folder)

    def batch(start: int) -> Batch:
        chosen = range(start, min(start + batch_size, len(records)))
        names, images, masks = zip(*(records[index] for index in chosen), strict=True)
        return Batch(list(names), np.stack(images), np.stack(masks))

    return ordered_map(batch, range(0, len(records), batch_size), ahead=1)


def spaced(count: int, total: int) -> list[int]:
    """`count` indices evenly spaced over `total`, or all if there are fewer."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


class PictureReader:
    """Random access to the pictures and masks of one split, read as they are asked for.

    A shard is checked when its first record is read.

    Args:
        dataset: what the records hold.
        split: `train`, `validation` or `test`.
        folder: of the records.

    Attributes:
        classes: their number.
    """

    def __init__(self, dataset: Dataset, split: str, folder: Path = RECORDS_DIR) -> None:
        self.image_size, self.classes = dataset.image_size, len(dataset.classes)
        self._shards = [entries(shard, self.image_size, folder) for shard in dataset.shards[split]]
        self._starts = np.cumsum([0, *map(len, self._shards)])

    def __len__(self) -> int:
        """Number of pictures."""
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        """Read one record.

        Raises:
            UserError: its file is damaged.
        """
        shard = np.searchsorted(self._starts, index, side="right") - 1
        return self._shards[shard][index - self._starts[shard]]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read some pictures, by their integer indices (pictures,).

        Returns:
            Pictures, uint8 (pictures, height, width, 3), and masks, uint8 (pictures, height,
            width).

        Raises:
            UserError: a file is damaged.
        """
        images = np.empty((len(indices), *self.image_size, 3), np.uint8)
        masks = np.empty((len(indices), *self.image_size), np.uint8)
        for image, mask, index in zip(images, masks, indices, strict=True):
            _, image[:], mask[:] = self[index]
        return images, masks
