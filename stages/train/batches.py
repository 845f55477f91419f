"""Batches of labelled pictures, or of their stored activations, in the order of an epoch."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np

from stages.shared.networks import devices
from stages.shared.records.dataset import IGNORED

Inputs = dict[str, np.ndarray] | np.ndarray
# That read batches ahead of the step. Without any, TensorFlow prefetches, and Keras waits each time
# it drops what an epoch was read with: with few batches, half of the time.
THREADS, AHEAD = 4, 8


class Reader(Protocol):
    """Labelled pictures, or their activations, by index."""

    def __len__(self) -> int:
        """Number of pictures."""

    def take(self, indices: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """What the network reads of these pictures, and masks, uint8 (pictures, height, width)."""


class Batches(keras.utils.PyDataset):
    """Batches of a reader; with a seed, in a new order each epoch, see `begin`.

    A batch is what `Supplied` takes: `inputs` and `masks`, read by threads ahead of the step, or,
    of a resident split, `indices`.

    Where several processes train together, each takes its share of every batch. The last batch may
    then be filled up with pictures of which every pixel is ignored, so that the shares are equal.

    Args:
        reader: the split.
        batch_size: pictures in a batch; the last may have fewer.
        seed: of the order; None keeps the order of the records.
        versions: of each picture in the reader, all of one after all of another; an epoch takes one
            of each, by chance.

    Attributes:
        resident_from: index of the split's first picture among the resident ones; None: it is read.
        failure: what the reader raised.
    """

    def __init__(
        self, reader: Reader, batch_size: int, seed: int | None = None, versions: int = 1
    ) -> None:
        super().__init__(workers=THREADS, max_queue_size=AHEAD)
        self.resident_from: int | None = None
        self.failure: Exception | None = None
        self.pictures, self.versions = len(reader) // versions, versions
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.begin(0)

    def __len__(self) -> int:
        return math.ceil(self.pictures / self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, Any]]:
        chosen = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        if self.resident_from is not None:
            return ({"indices": (self.resident_from + chosen).astype(np.int32)},)
        try:
            inputs, masks = self.reader.take(chosen)
        except Exception as error:
            self.failure = error
            raise
        if devices.processes() > 1:
            assert isinstance(inputs, np.ndarray), "heads are trained by one process"
            inputs, masks = share(inputs, 0), share(masks, IGNORED)
        return ({"inputs": inputs, "masks": masks},)

    def begin(self, epoch: int) -> None:
        """Set the order of an epoch; epoch 0 is before the first step."""
        self.order = np.arange(self.pictures)
        if self.seed is not None:
            random = np.random.default_rng((self.seed, epoch))
            random.shuffle(self.order)
            self.order += self.pictures * random.integers(self.versions, size=self.pictures)


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


def share(batch: np.ndarray, filling: int) -> np.ndarray:
    """This process's part of a batch, (pictures, ...), filled up to be as large as the others'."""
    processes = devices.processes()
    missing = -len(batch) % processes
    filled = np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1), constant_values=filling)
    return np.split(filled, processes)[devices.process()]
