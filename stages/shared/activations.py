"""data/features/: the backbone's activations on every picture, and the masks that go with them.

For each shard of records, `{split}-{number}.{tap}.npy` holds float16 (pictures, height, width,
channels) and `{split}-{number}.mask.npy` uint8 (pictures, height, width). They are mapped into
memory, so reading a batch touches that batch alone. `features.json` describes them.

float16 ends at 65504, and a random network's activations may not: each tap is stored times a power
of two, its `unit`, which costs no digit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from pydantic import BaseModel

from stages.shared.fcn import Statistics

FEATURES_DIR = Path("data/features")
FEATURES_FILE = FEATURES_DIR / "features.json"
# Activations are stored with their largest near this, as far from 65504 as from float16's smallest.
LARGEST_STORED = 256.0


class Tap(BaseModel):
    """One tap of the backbone: its statistics over the training split, and how it is stored.

    Attributes:
        unit: stored values are activations times this power of two.
        mean, deviation: of each channel's activations.
    """

    unit: float
    mean: list[float]
    deviation: list[float]

    @property
    def statistics(self) -> Statistics:
        """As arrays, float32."""
        return Statistics(np.array(self.mean, np.float32), np.array(self.deviation, np.float32))


class Features(BaseModel):
    """What data/features/ holds.

    Attributes:
        precision: Keras dtype policy that the backbone ran under.
        image_size: (height, width) of the pictures and masks.
        classes: class names; a mask's value is an index into them.
        taps: by name.
        shards: number of pictures in each shard of each split.
    """

    precision: str
    image_size: tuple[int, int]
    classes: list[str]
    taps: dict[str, Tap]
    shards: dict[str, list[int]]

    @classmethod
    def load(cls) -> "Features":
        """Read features.json."""
        return cls.model_validate_json(FEATURES_FILE.read_text(encoding="utf-8"))

    def save(self) -> None:
        """Write features.json."""
        FEATURES_FILE.write_text(self.model_dump_json() + "\n", encoding="utf-8")


def unit(largest: float) -> float:
    """The power of two that brings an activation as large as `largest` to `LARGEST_STORED`."""
    return float(2.0 ** np.floor(np.log2(LARGEST_STORED / largest))) if largest > 0 else 1.0


def shard_file(split: str, number: int, content: str) -> Path:
    """Path of one array of a shard: a tap's, or `mask`."""
    return FEATURES_DIR / f"{split}-{number:05d}.{content}.npy"


class ShardWriter:
    """Writes the activations and masks of one shard, batch by batch, straight to disk.

    Args:
        split: `train`, `validation` or `test`.
        number: of the shard in its split.
        pictures: how many the shard holds.
    """

    def __init__(self, split: str, number: int, pictures: int) -> None:
        self.split, self.number, self.pictures = split, number, pictures
        self.done = 0
        self._arrays: dict[str, np.memmap] = {}

    def append(
        self, taps: Mapping[str, np.ndarray], units: Mapping[str, float], masks: np.ndarray
    ) -> None:
        """Write a batch.

        Args:
            taps: activations, float32 (batch, height, width, channels); what float16 can't hold
                even times the tap's unit is stored as float16's largest.
            units: of each tap.
            masks: uint8 (batch, height, width).
        """
        largest = np.finfo(np.float16).max
        for tap, values in taps.items():
            stored = np.minimum(values * np.float32(units[tap]), largest).astype(np.float16)
            self._write(tap, stored)
        self._write("mask", masks)
        self.done += len(masks)

    def close(self) -> None:
        """Have the operating system put what was written on the disk."""
        for array in self._arrays.values():
            array.flush()

    def _write(self, content: str, values: np.ndarray) -> None:
        if content not in self._arrays:
            path = shard_file(self.split, self.number, content)
            shape = (self.pictures, *values.shape[1:])
            self._arrays[content] = open_memmap(path, "w+", values.dtype, shape)
        self._arrays[content][self.done : self.done + len(values)] = values


class SplitReader:
    """Random access to the activations and masks of one split.

    Args:
        features: what data/features/ holds.
        split: `train`, `validation` or `test`.
        taps: the ones to read.
    """

    def __init__(self, features: Features, split: str, taps: Sequence[str]) -> None:
        numbers = range(len(features.shards[split]))
        self.units = {tap: features.taps[tap].unit for tap in taps}
        self._starts = np.cumsum([0, *features.shards[split]])
        self._arrays = {
            content: [np.load(shard_file(split, n, content), mmap_mode="r") for n in numbers]
            for content in (*taps, "mask")
        }

    def __len__(self) -> int:
        """Number of pictures."""
        return int(self._starts[-1])

    def take(self, indices: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read some pictures.

        Args:
            indices: integer (pictures,); sorted ones are read fastest.

        Returns:
            Activations by tap, float32 (pictures, height, width, channels), and masks, uint8
            (pictures, height, width).
        """
        taps = {
            tap: np.multiply(self._gather(tap, indices), np.float32(1 / unit), dtype=np.float32)
            for tap, unit in self.units.items()
        }
        return taps, self._gather("mask", indices)

    def _gather(self, content: str, indices: np.ndarray) -> np.ndarray:
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        rows = indices - self._starts[shards]
        arrays = self._arrays[content]
        return np.stack([arrays[s][row] for s, row in zip(shards, rows, strict=True)])
