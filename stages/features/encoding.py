"""Activations in 255 steps, and the files of a shard of them (see `formats.features`)."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from numpy.lib import format as npy

from stages.shared.formats.features import file_name, tap_bytes
from stages.shared.networks.compiled import Answer, Compiled
from stages.shared.runtime.digests import Digest

STEPS = 255
# Batches that may wait to be written.
WAITING = 2


class Encoded(NamedTuple):
    """Activations of some pictures as they are stored, and what is known of them: arrays, or
    tensors.

    Attributes:
        values: uint8 (pictures, height, width, channels), in steps.
        scale: float32 (pictures, 2, channels), the lowest activation and the size of a step:
            activations are about the lowest and so many steps.
        mean: float32 (pictures, channels), of the activations.
        squares: float32 (pictures, channels), sum of their squared distances from the mean.
    """

    values: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


# The answer's tensors are an `Encoded` for each tap.
Encoder = Callable[[np.ndarray], Answer]


class Encode(layers.Layer):
    """`encode` as a part of a network, so that only bytes leave the device."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")

    def call(self, activations: KerasTensor) -> Encoded:
        return encode(activations)


def encode(activations: KerasTensor) -> Encoded:
    """Activations, float32 (pictures, height, width, channels), in steps."""
    plane = (1, 2)
    lowest, mean = ops.min(activations, plane), ops.mean(activations, plane)
    step = (ops.max(activations, plane) - lowest) / STEPS
    steps = (activations - lowest[:, None, None]) * ops.divide_no_nan(1.0, step)[:, None, None]
    return Encoded(
        ops.cast(ops.round(steps), "uint8"),
        ops.stack([lowest, step], axis=1),
        mean,
        ops.sum(ops.square(activations - mean[:, None, None]), plane),
    )


def encoder(backbone: keras.Model, batch_size: int) -> Encoder:
    """A backbone and the encoding of its taps in one compiled graph, so that only bytes leave the
    device: pictures, uint8 (batch, height, width, 3), to an `Encoded` of each tap.

    Args:
        backbone: from `backbones`.
        batch_size: of most batches; of two threads, the one with a smaller may come first.
    """
    taps = {tap: Encode(f"encode_{tap}")(x) for tap, x in backbone.output.items()}
    return Compiled(keras.Model(backbone.input, taps), batch_size)


def sizes(shapes: Collection[tuple[int, int, int]], image_size: tuple[int, int]) -> int:
    """Bytes that taps of these shapes and the mask take of one picture; of no taps, none."""
    return image_size[0] * image_size[1] + tap_bytes(shapes) if shapes else 0


class ShardWriter:
    """Writes the activations and masks of one shard, batch by batch, each file in its own thread.

    A context manager: what waits is written when it is left.

    Args:
        folder: where to.
        split: `train`, `validation` or `test`.
        number: of the shard in its split.
        pictures: how many the shard holds.
    """

    def __init__(self, folder: Path, split: str, number: int, pictures: int) -> None:
        self.folder, self.split, self.number, self.pictures = folder, split, number, pictures
        self._files: dict[str, _File] = {}
        self._waiting: deque[list[Future[None]]] = deque()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, taps: Mapping[str, Encoded], masks: np.ndarray) -> None:
        """Have a batch written, once those before the last are.

        Args:
            taps: of its pictures, or of a batch that is filled up; each tensor that lies on a
                device is copied by the thread of its file.
            masks: uint8 (pictures, height, width).

        Raises:
            OSError: a file can't be written.
        """
        tensors: dict[str, Any] = {"mask": masks}
        for tap, parts in taps.items():
            tensors |= {tap: parts.values, f"{tap}_scale": parts.scale}
        size = len(masks)
        self._waiting.append([self._file(n, x).append(x, size) for n, x in tensors.items()])
        while len(self._waiting) > WAITING:
            self._wait()

    def close(self) -> dict[str, str]:
        """Finish the files; the digest of each, by name.

        Raises:
            OSError: a file can't be written.
        """
        while self._waiting:
            self._wait()
        self._stack.close()
        return {name: file.digest.hexdigest() for name, file in self._files.items()}

    def _wait(self) -> None:
        for future in self._waiting.popleft():
            future.result()

    def _file(self, content: str, first: Any) -> "_File":
        name = file_name(self.split, self.number, content)
        if name not in self._files:
            opened = self._stack.enter_context((self.folder / name).open("wb"))
            file = self._files[name] = _File(opened)
            # Ends before the file is closed.
            self._stack.enter_context(file.thread)
            kind = np.dtype(keras.backend.standardize_dtype(first.dtype))
            shape = (self.pictures, *first.shape[1:])
            header = {"descr": kind.str, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
        return self._files[name]


class _File:
    """A file that is written by a thread of its own, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, Digest()
        self.thread = ThreadPoolExecutor(1)

    def append(self, tensor: Any, size: int) -> "Future[None]":
        def copied() -> None:
            self.write(np.ascontiguousarray(np.asarray(tensor)[:size]).data)

        return self.thread.submit(copied)

    def write(self, content: bytes | memoryview) -> None:
        self.digest.update(content)
        self.file.write(content)
