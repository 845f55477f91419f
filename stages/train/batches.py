"""Batches of labelled pictures, or of their stored activations, in the order of an epoch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import keras
import numpy as np

from stages.shared.networks import devices
from stages.shared.records.dataset import IGNORED

Inputs = dict[str, np.ndarray] | np.ndarray


class Reader(Protocol):
    """Labelled pictures, or their activations, by index."""

    def __len__(self) -> int:
        """Number of pictures."""

    def take(self, indices: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """What the network reads of these pictures, and masks, uint8 (pictures, height, width)."""


class Augment(Protocol):
    """A random change of pictures and masks."""

    def __call__(
        self, pictures: np.ndarray, masks: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pictures and masks after a random change that follows from `seed`."""


class Batches(keras.utils.PyDataset):
    """Batches of a reader; with a seed, in a new order each epoch, see `begin`.

    Where several processes train together, each takes its share of every batch. The last batch may
    then be filled up with pictures of which every pixel is ignored, so that the shares are equal.

    Args:
        reader: the split.
        batch_size: pictures in a batch; the last may have fewer.
        seed: of the order; None keeps the order of the records.
        augment: changes each batch; needs a seed.
        versions: of each picture in the reader, all of one after all of another; an epoch takes one
            of each, by chance.

    Attributes:
        failure: what the reader raised.
    """

    def __init__(
        self,
        reader: Reader,
        batch_size: int,
        seed: int | None = None,
        augment: Augment | None = None,
        versions: int = 1,
    ) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.pictures, self.versions = len(reader) // versions, versions
        self.reader, self.batch_size, self.seed, self.augment = reader, batch_size, seed, augment
        self.begin(0)

    def __len__(self) -> int:
        return math.ceil(self.pictures / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Inputs, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        try:
            inputs, masks = self.reader.take(np.sort(chosen))
        except Exception as error:
            self.failure = error
            raise
        if self.augment is not None:
            assert isinstance(inputs, np.ndarray), "pictures can be changed, activations can't"
            with devices.alone():
                inputs, masks = self.augment(inputs, masks, (self.seed or 0, self.epoch, index))
        if devices.processes() == 1:
            return inputs, masks
        assert isinstance(inputs, np.ndarray), "heads are trained by one process"
        return share(inputs, 0), share(masks, IGNORED)

    def begin(self, epoch: int) -> None:
        """Set the order, and the changes, of an epoch; epoch 0 is before the first step."""
        self.epoch = epoch
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
