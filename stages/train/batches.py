"""Batches of labelled pictures, or of their stored activations, in the order of an epoch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

import keras
import numpy as np

from stages.shared.networks.compiled import filled
from stages.shared.records.ignore_label import IGNORED
from stages.shared.runtime.ordered_map import ordered_map
from stages.train import distribution

Inputs = dict[str, np.ndarray] | np.ndarray
Batch = dict[str, Any]
# Pictures that are read at once into memory.
TAKEN_AT_ONCE = 256
# The most that read batches ahead of the step; each holds two at a time.
THREADS = 4
# Batches whose steps are one computation, where that is possible.
AT_ONCE = 16


class Reader(Protocol):
    """Labelled pictures, or their activations, by index."""

    def __len__(self) -> int:
        """Number of pictures."""

    def take(self, indices: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """What the network reads of these pictures, and masks, uint8 (pictures, height, width)."""


class Held:
    """Labelled pictures, or their activations, in the machine's memory.

    Args:
        inputs: what the network reads of all.
        masks: of all.
    """

    def __init__(self, inputs: Inputs, masks: np.ndarray) -> None:
        self.arrays = inputs, masks

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.arrays[1])

    def take(self, indices: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """Copies of some."""
        return keras.tree.map_structure(lambda array: array[indices], self.arrays)


def held(reader: Reader) -> Held:
    """A reader's pictures, read once.

    Raises:
        UserError: a file is damaged.
    """
    arrays = room_for(reader, len(reader))
    read_into(arrays, reader)
    return Held(*arrays)


def room_for(reader: Reader, pictures: int) -> tuple[Inputs, np.ndarray]:
    """Inputs and masks, not yet filled, of so many pictures like a reader's."""
    return keras.tree.map_structure(
        lambda one: np.empty((pictures, *one.shape[1:]), one.dtype), reader.take(np.array([0]))
    )


def read_into(arrays: tuple[Inputs, np.ndarray], reader: Reader, start: int = 0) -> None:
    """Read all of a reader, a few hundred pictures at a time, into arrays from an index on.

    Raises:
        UserError: a file is damaged.
    """
    for first in range(0, len(reader), TAKEN_AT_ONCE):
        chosen = np.arange(first, min(first + TAKEN_AT_ONCE, len(reader)))
        parts = keras.tree.flatten(reader.take(chosen))
        for array, part in zip(keras.tree.flatten(arrays), parts, strict=True):
            array[start + chosen] = part


class Batches:
    """Batches of a reader; with a seed, in a new order each epoch.

    A batch is what `Supplied` takes: `inputs` and `masks`, read by threads ahead of the step, or,
    of a resident split, `indices`. Keras reads them from one iterator for all epochs, so that the
    threads read ahead into the next.

    Where several processes or GPUs train together, each takes its share of every batch. A batch is
    then filled up with pictures of which every pixel is ignored, so that the shares are equal, for
    TensorFlow can't compute on none; and under XLA, which compiles a step for each size of a batch,
    so that it is as large as the others. In the loss of the epoch it counts as if it were.

    Args:
        reader: the split.
        batch_size: pictures in a batch; the last may have fewer.
        seed: of the order; None keeps the order of the records.
        versions: of each picture in the reader, all of one after all of another; an epoch takes one
            of each, by chance.

    Attributes:
        resident_from: index of the split's first picture among the resident ones; None: it is read.
        at_once: batches that `stream` puts together, of a resident split.
        filling: index of the picture there of which every pixel is ignored.
        failure: what the reader raised.
    """

    def __init__(
        self, reader: Reader, batch_size: int, seed: int | None = None, versions: int = 1
    ) -> None:
        self.resident_from: int | None = None
        self.filling = 0
        self.at_once = 1
        # Asked here, for a thread that reads does not know of several devices.
        self.compiled, self.shares = distribution.compiles(), distribution.shares()
        self.failure: Exception | None = None
        self.pictures, self.versions = len(reader) // versions, versions
        self.reader, self.batch_size, self.seed = reader, batch_size, seed

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(self.pictures / self.batch_size)

    @property
    def steps(self) -> int:
        """Number of what `stream` has for an epoch."""
        return math.ceil(len(self) / self.at_once)

    def stream(self, epoch: int = 1, epochs: int | None = None) -> Iterator[tuple[Batch]]:
        """The batches of this epoch, then of the next, and so on; None: without an end."""
        numbers = count(epoch) if epochs is None else range(epoch, epoch + epochs)
        if self.at_once > 1:
            return (some for number in numbers for some in self.together(self.epoch(number)))
        chosen = (part for number in numbers for part in self.epoch(number))
        if self.resident_from is not None:
            # Keras knows no other iterators than generators.
            return (self.read(part) for part in chosen)
        return ordered_map(self.read, chosen, ahead=1, threads=THREADS)

    def epoch(self, number: int) -> list[np.ndarray]:
        """Indices of the pictures in each batch of an epoch."""
        order = np.arange(self.pictures)
        if self.seed is not None:
            random = np.random.default_rng((self.seed, number))
            random.shuffle(order)
            order += self.pictures * random.integers(self.versions, size=self.pictures)
        starts = range(0, self.pictures, self.batch_size)
        return [np.sort(order[start : start + self.batch_size]) for start in starts]

    def read(self, chosen: np.ndarray) -> tuple[Batch]:
        """The batch of some pictures, by their indices in the split.

        Raises:
            UserError: a file is damaged.
        """
        missing = self._missing(len(chosen))
        if self.resident_from is not None:
            filling = np.repeat(self.filling, missing)
            indices = np.concatenate([self.resident_from + chosen, filling])
            return ({"indices": indices.astype(np.int32)},)
        try:
            inputs, masks = self.reader.take(chosen)
        except Exception as error:
            self.failure = error
            raise
        inputs = keras.tree.map_structure(lambda array: filled(array, missing), inputs)
        masks = filled(masks, missing, IGNORED)
        if distribution.processes() > 1:
            assert isinstance(inputs, np.ndarray), "heads are trained by one process"
            inputs, masks = share(inputs), share(masks)
        return ({"inputs": inputs, "masks": masks},)

    def together(self, chosen: Sequence[np.ndarray]) -> Iterator[tuple[Batch]]:
        """The batches of a resident split, several in one: `indices`, (at_once, batch), of which
        the first `batches` rows are meant."""
        for start in range(0, len(chosen), self.at_once):
            parts = chosen[start : start + self.at_once]
            rows = np.stack([self.read(part)[0]["indices"] for part in parts])
            indices = filled(rows, self.at_once - len(rows), self.filling)
            yield ({"indices": indices, "batches": np.int32(len(rows))},)

    def _missing(self, pictures: int) -> int:
        """How many a batch of so many pictures is filled up with."""
        wanted = min(self.batch_size, self.pictures) if self.compiled else pictures
        return math.ceil(wanted / self.shares) * self.shares - pictures


def array_bytes(splits: Sequence[Batches]) -> list[int]:
    """Bytes that each array of some splits takes in memory."""
    pictures = sum(len(split.reader) for split in splits)
    one = keras.tree.flatten(splits[0].reader.take(np.array([0])))
    return [pictures * array.nbytes for array in one]


@contextmanager
def read_errors(*sources: Batches) -> Iterator[None]:
    """Raise what a reader raised: TensorFlow makes an error of its own of it."""
    try:
        yield
    except Exception:
        for batches in sources:
            if batches.failure:
                raise batches.failure from None
        raise


def share(batch: np.ndarray) -> np.ndarray:
    """This process's part of a batch, (pictures, ...)."""
    return np.split(batch, distribution.processes())[distribution.process()]
