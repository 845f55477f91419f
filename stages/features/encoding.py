"""Activations in 255 steps, and the files of a shard of them (see `formats.features`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from stages.shared.formats.features import file_name, tap_bytes
from stages.shared.runtime.digests import digest

STEPS = 255


def encode(activations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations, float32 (pictures, height, width, channels), in steps.

    Returns:
        uint8 of the same shape, and float32 (pictures, 2, channels), the lowest activation and the
        size of a step: activations are about the lowest and so many steps.
    """
    lowest = activations.min(axis=(1, 2))
    step = (activations.max(axis=(1, 2)) - lowest) / np.float32(STEPS)
    per_unit = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
    steps = (activations - lowest[:, None, None]) * per_unit[:, None, None]
    return np.rint(steps).astype(np.uint8), np.stack([lowest, step], axis=1)


def sizes(shapes: Mapping[str, tuple[int, int, int]], image_size: tuple[int, int]) -> int:
    """Bytes that the features of one picture take, by the taps' shapes."""
    return image_size[0] * image_size[1] + tap_bytes(shapes.values())


class ShardWriter:
    """Writes the activations and masks of one shard, batch by batch.

    Args:
        folder: where to.
        split: `train`, `validation` or `test`.
        number: of the shard in its split.
        pictures: how many the shard holds.
    """

    def __init__(self, folder: Path, split: str, number: int, pictures: int) -> None:
        self.folder, self.split, self.number, self.pictures = folder, split, number, pictures
        self._files: dict[str, BinaryIO] = {}

    def append(self, taps: Mapping[str, np.ndarray], masks: np.ndarray) -> None:
        """Write a batch: activations as `encode` takes them, and masks, uint8."""
        for tap, activations in taps.items():
            values, scale = encode(activations)
            self._write(tap, values)
            self._write(f"{tap}_scale", scale)
        self._write("mask", masks)

    def close(self) -> dict[str, str]:
        """Finish the files; SHA-256 of each, by name."""
        for file in self._files.values():
            file.close()
        return {name: digest(self.folder / name) for name in self._files}

    def _write(self, content: str, array: np.ndarray) -> None:
        name = file_name(self.split, self.number, content)
        if name not in self._files:
            file = self._files[name] = (self.folder / name).open("wb")
            shape = (self.pictures, *array.shape[1:])
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
        self._files[name].write(np.ascontiguousarray(array).data)
