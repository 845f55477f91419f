"""data/features/BACKBONE/: what variants on a backbone read of its activations.

    head/     for train: head, activations on every picture, and the masks that go with them
    network/  for train: network, the statistics of all taps

Each channel of each picture is stored in 255 even steps from its lowest to its highest activation
there: a byte an activation, half of float16, whatever the scale, and no error above half a step.
For each shard of records there are

    {split}-{number}.{tap}.npy        uint8 (pictures, height, width, channels), in steps
    {split}-{number}.{tap}_scale.npy  float32 (pictures, 2, channels), the lowest, and a step
    {split}-{number}.mask.npy         uint8 (pictures, height, width)

A training keeps its splits in memory if they fit (`memory` in params.yaml); else batches are read
from the files as they are asked for.
Each of the two folders has a `features.json` that describes it.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Literal, Self

import numpy as np
from numpy.lib import format as npy
from pydantic import BaseModel

from stages.shared.manifest import Manifest
from stages.shared.records.dataset import Dataset
from stages.shared.runtime.digests import damaged, require_whole
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import FEATURES_DIR

FEATURES_FILE = "features.json"
# The folders of a backbone, named like `train` of the variants that read them.
HEAD, NETWORK = "head", "network"
# Among the splits, the training pictures flipped horizontally.
FLIPPED = "train-flipped"


class Tap(BaseModel):
    """A tap.

    Attributes:
        shape: of its activations on one picture, (height, width, channels).
        mean: of each channel, over the training split.
        deviation: of each channel, over the training split.
    """

    shape: tuple[int, int, int]
    mean: list[float]
    deviation: list[float]


class FeatureShard(BaseModel):
    """The features of one shard of records.

    Attributes:
        number: of the shard in its split.
        pictures: how many it holds.
        files: digest of each file, by its name in the folder.
    """

    number: int
    pictures: int
    files: dict[str, str]


class Features(Manifest):
    """What a folder of data/features/BACKBONE/ holds.

    Attributes:
        records: digest of the records that they were made from.
        backbone_weights: digest of those that they were made with.
        precision: Keras dtype policy that the backbone ran under.
        image_size: (height, width) of the pictures and masks.
        classes: class names; a mask's value is an index into them, or `IGNORED`.
        parameters: weights of the backbone.
        flop: that it takes for a picture, see `cost.flop`.
        taps: by name; in head/ those that are stored, in network/ all.
        shards: of each split, and of `FLIPPED` if it is wanted; none in network/.
    """

    schema_version: Literal[7] = 7
    records: str
    backbone_weights: str
    precision: str
    image_size: tuple[int, int]
    classes: list[str]
    parameters: int
    flop: int
    taps: dict[str, Tap]
    shards: dict[str, list[FeatureShard]]

    @classmethod
    def load(cls, backbone: str, reader: str) -> Self:
        """Read features.json of a backbone.

        Args:
            backbone: its name in params.yaml.
            reader: `HEAD` or `NETWORK`.

        Raises:
            UserError: it is damaged, of another version of the pipeline, or of other records than
                there are.
        """
        folder = folder_of(backbone, reader)
        features = cls.read(folder / FEATURES_FILE)
        if features.records != Dataset.load().digest:
            raise UserError(
                f"{folder}/ was made from other records than data/records/; "
                f"`dvc repro features@{backbone}` makes it again"
            )
        return features

    def require_backbone(self, weights: str, whose: Path) -> None:
        """Fail on features of another backbone.

        Args:
            weights: digest of the backbone's weights.
            whose: folder of that backbone or of a variant trained on it.

        Raises:
            UserError: names what is inconsistent.
        """
        if self.backbone_weights != weights:
            raise UserError(
                f"the features are of another backbone than that of {whose}/; "
                "`dvc repro` updates what is out of date"
            )


def folder_of(backbone: str, reader: str) -> Path:
    """Where lies what a head or a network on a backbone reads, `HEAD` or `NETWORK`."""
    return FEATURES_DIR / backbone / reader


def tap_bytes(shapes: Iterable[tuple[int, int, int]]) -> int:
    """Bytes that taps of these shapes take of one picture."""
    scale = 2 * np.dtype(np.float32).itemsize
    return sum(height * width * channels + scale * channels for height, width, channels in shapes)


def file_name(split: str, number: int, content: str) -> str:
    """Name of one array of a shard: a tap's, what its steps mean, or `mask`."""
    return f"{split}-{number:05d}.{content}.npy"


class StoredArray:
    """Pictures' entries in an .npy file, read one by one; it is checked when the first is read.

    A memory map would do, but what it has touched counts as the process's memory. The file is open
    only while it is read: there are several for each shard, and a process may hold some thousand.

    Args:
        path: of the file.
        digest: of it.
        shape: what it should hold, (pictures, ...).
        dtype: the same.
    """

    def __init__(self, path: Path, digest: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.digest, self.shape, self.dtype = path, digest, shape, dtype
        self.row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        # Of several threads, one checks the file.
        self._lock = Lock()

    def read(self, row: int, out: np.ndarray) -> None:
        """Read one picture's entry into `out`, which has its shape and dtype.

        Raises:
            UserError: the file is damaged.
        """
        with self._lock:
            start = self._start
        with self.path.open("rb", buffering=0) as file:
            file.seek(start + row * self.row_bytes)
            file.readinto(out.data)

    @cached_property
    def _start(self) -> int:
        """Where the entries start in the file."""
        require_whole({self.path: self.digest})
        try:
            with self.path.open("rb") as file:
                version = npy.read_magic(file)
                found = npy.read_array_header_1_0(file) if version == (1, 0) else version
                start = file.tell()
        except Exception as error:
            # NumPy reads the header as Python, and raises whatever that stumbles over.
            raise UserError(damaged(self.path, str(error))) from None
        whole = start + self.shape[0] * self.row_bytes
        if found != (self.shape, False, self.dtype) or self.path.stat().st_size != whole:
            wanted = f"{self.dtype} {self.shape}"
            raise UserError(damaged(self.path, f"it should be an array of {wanted}"))
        return start


class FeatureReader:
    """Random access to the activations and masks of one split.

    Args:
        folder: data/features/BACKBONE/head.
        features: what it holds.
        split: `train`, `validation` or `test`.
        taps: the ones to read.
        flipped: whether the split's pictures, flipped, follow after all of them.
    """

    def __init__(
        self,
        folder: Path,
        features: Features,
        split: str,
        taps: Sequence[str],
        flipped: bool = False,
    ) -> None:
        parts = (split, FLIPPED) if flipped else (split,)
        shards = [(part, shard) for part in parts for shard in features.shards[part]]
        self._starts = np.cumsum([0, *(shard.pictures for _, shard in shards)])
        self._entries: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "mask": (features.image_size, np.dtype(np.uint8))
        }
        for tap in taps:
            shape = features.taps[tap].shape
            self._entries[tap] = shape, np.dtype(np.uint8)
            self._entries[f"{tap}_scale"] = (2, shape[-1]), np.dtype(np.float32)
        self._arrays = {
            content: [
                StoredArray(folder / name, shard.files[name], (shard.pictures, *shape), dtype)
                for part, shard in shards
                for name in [file_name(part, shard.number, content)]
            ]
            for content, (shape, dtype) in self._entries.items()
        }

    def __len__(self) -> int:
        """Number of pictures."""
        return int(self._starts[-1])

    def take(self, indices: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read some pictures, by their integer indices (pictures,).

        Returns:
            What `on_stored` reads: for each tap uint8 (pictures, height, width, channels), and
            under `{tap}_scale` float32 (pictures, 2, channels); and masks, uint8 (pictures, height,
            width).

        Raises:
            UserError: a file is damaged.
        """
        contents = {content: self._gather(content, indices) for content in self._arrays}
        masks = contents.pop("mask")
        return contents, masks

    def _gather(self, content: str, indices: np.ndarray) -> np.ndarray:
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        shape, dtype = self._entries[content]
        gathered = np.empty((len(indices), *shape), dtype)
        for entry, shard, index in zip(gathered, shards, indices, strict=True):
            self._arrays[content][shard].read(index - self._starts[shard], entry)
        return gathered
