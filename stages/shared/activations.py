"""data/features/: the backbone's activations on every picture, and the masks that go with them.

Activations are outputs of ReLU, so not negative. Each channel of each picture is stored in 255 even
steps from 0 to its largest activation there: a byte an activation, half of float16, whatever the
scale, and no error above 1/510 of that largest. For each shard of records there are

    {split}-{number}.{tap}.npy        uint8 (pictures, height, width, channels), in steps
    {split}-{number}.{tap}_step.npy   float32 (pictures, channels), the size of a step
    {split}-{number}.mask.npy         uint8 (pictures, height, width)

Batches are read from the files as they are asked for, so the activations never lie in memory.
`features.json` describes them all.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from numpy.lib import format as npy
from pydantic import BaseModel

from stages.shared.fcn import Statistics
from stages.shared.vgg import Shape

FEATURES_DIR = Path("data/features")
FEATURES_FILE = FEATURES_DIR / "features.json"
STEPS = 255


class Tap(BaseModel):
    """Mean and standard deviation of each channel of a tap, over the training split."""

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
        classes: class names; a mask's value is an index into them, or `dataset.IGNORED`.
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


def encode(activations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations, float32 (pictures, height, width, channels), none negative, in steps.

    Returns:
        uint8 of the same shape, and the size of a step, float32 (pictures, channels): activations
        are about the one times the other.
    """
    steps = activations.max(axis=(1, 2)) / np.float32(STEPS)
    per_unit = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
    return np.rint(activations * per_unit[:, None, None]).astype(np.uint8), steps


class Decode(layers.Layer):
    """Activations, float32 (batch, height, width, channels), from what `encode` returns."""

    def call(self, values: KerasTensor, steps: KerasTensor) -> KerasTensor:
        return ops.cast(values, "float32") * ops.expand_dims(ops.expand_dims(steps, 1), 1)

    def compute_output_shape(self, values_shape: Shape, steps_shape: Shape) -> Shape:
        return values_shape


def on_stored(head: keras.Model) -> keras.Model:
    """The same head, with the same weights, on what `SplitReader.take` returns."""
    inputs, taps = {}, {}
    for tap, activations in head.input.items():
        values = keras.Input(activations.shape[1:], dtype="uint8", name=tap)
        steps = keras.Input(activations.shape[-1:], name=f"{tap}_step")
        inputs |= {tap: values, f"{tap}_step": steps}
        taps[tap] = Decode(name=f"decode_{tap}")(values, steps)
    return keras.Model(inputs, head(taps), name=f"stored_{head.name}")


def shard_file(split: str, number: int, content: str) -> Path:
    """Path of one array of a shard: a tap's, its steps', or `mask`."""
    return FEATURES_DIR / f"{split}-{number:05d}.{content}.npy"


class ShardWriter:
    """Writes the activations and masks of one shard, batch by batch.

    Args:
        split: `train`, `validation` or `test`.
        number: of the shard in its split.
        pictures: how many the shard holds.
    """

    def __init__(self, split: str, number: int, pictures: int) -> None:
        self.split, self.number, self.pictures = split, number, pictures
        self._files: dict[str, BinaryIO] = {}

    def append(self, taps: Mapping[str, np.ndarray], masks: np.ndarray) -> None:
        """Write a batch: activations as `encode` takes them, and masks, uint8."""
        for tap, activations in taps.items():
            values, steps = encode(activations)
            self._write(tap, values)
            self._write(f"{tap}_step", steps)
        self._write("mask", masks)

    def close(self) -> None:
        """Finish the files."""
        for file in self._files.values():
            file.close()

    def _write(self, content: str, array: np.ndarray) -> None:
        if content not in self._files:
            file = self._files[content] = shard_file(self.split, self.number, content).open("wb")
            shape = (self.pictures, *array.shape[1:])
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
        self._files[content].write(np.ascontiguousarray(array))


class StoredArray:
    """Pictures' entries in an .npy file, read one by one.

    A memory map would do, but what it has touched counts as the process's memory.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        npy.read_magic(self.file)
        (_, *self.shape), _, self.dtype = npy.read_array_header_1_0(self.file)
        self.start = self.file.tell()

    def read(self, row: int, out: np.ndarray) -> None:
        """Read one picture's entry into `out`, which has its shape and dtype."""
        os.preadv(self.file.fileno(), [out], self.start + row * out.nbytes)


class SplitReader:
    """Random access to the activations and masks of one split.

    Args:
        features: what data/features/ holds.
        split: `train`, `validation` or `test`.
        taps: the ones to read.
    """

    def __init__(self, features: Features, split: str, taps: Sequence[str]) -> None:
        numbers = range(len(features.shards[split]))
        self._starts = np.cumsum([0, *features.shards[split]])
        self._arrays = {
            content: [StoredArray(shard_file(split, n, content)) for n in numbers]
            for content in (*taps, *(f"{tap}_step" for tap in taps), "mask")
        }

    def __len__(self) -> int:
        """Number of pictures."""
        return int(self._starts[-1])

    def take(self, indices: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read some pictures, by their integer indices (pictures,).

        Returns:
            What `on_stored` reads: for each tap uint8 (pictures, height, width, channels), and
            under `{tap}_step` float32 (pictures, channels); and masks, uint8 (pictures, height,
            width).
        """
        contents = {content: self._gather(content, indices) for content in self._arrays}
        masks = contents.pop("mask")
        return contents, masks

    def _gather(self, content: str, indices: np.ndarray) -> np.ndarray:
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        arrays = self._arrays[content]
        gathered = np.empty((len(indices), *arrays[0].shape), arrays[0].dtype)
        for entry, shard, index in zip(gathered, shards, indices, strict=True):
            arrays[shard].read(index - self._starts[shard], entry)
        return gathered
