"""A network with its supply: what it reads lies in the device's memory, or comes with the batch.

Everything between a batch of indices and the loss is one compiled step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from stages.shared.records.ignore_label import IGNORED
from stages.train import distribution
from stages.train.batches import Batches, read_into, room_for
from stages.train.sampling import Sampled

Tensors = dict[str, KerasTensor]
# Changes pictures and masks while training.
Augment = Callable[[KerasTensor, KerasTensor], tuple[KerasTensor, KerasTensor]]

# Under what a reader's inputs lie, where they are one array.
PICTURES = "pictures"


class Resident(layers.Layer):
    """Splits that lie in the device's memory, one after the other, and a picture of which every
    pixel is ignored; a batch is gathered from them.

    Args:
        splits: from now on their batches are indices into what lies here.

    Raises:
        UserError: a file is damaged.
    """

    def __init__(self, splits: Sequence[Batches]) -> None:
        super().__init__(name="resident", autocast=False)
        arrays = joined(splits)
        start = 0
        for batches in splits:
            batches.resident_from, batches.filling = start, len(arrays["masks"]) - 1
            start += len(batches.reader)
        # One at a time, so that one alone lies in memory several times, see `resident_bytes`.
        self.arrays = {name: resident(name, arrays.pop(name)) for name in list(arrays)}

    def call(self, indices: KerasTensor) -> tuple[Tensors | KerasTensor, KerasTensor]:
        """Inputs and masks of some pictures, by their indices, int32 (batch,)."""
        gathered = {name: ops.take(array, indices, axis=0) for name, array in self.arrays.items()}
        masks = gathered.pop("masks")
        return gathered.get(PICTURES, gathered), masks


class Supplied(keras.Model):
    """A network that is trained on batches of `Batches`; it has masks and logits as its result.

    Args:
        network: of inputs, to logits (batch, height, width, classes).
        augment: changes inputs and masks while training.
        resident: holds the splits, where they are resident.
        sampled: takes the network's place while training, for a share of the pixels.
    """

    def __init__(
        self,
        network: keras.Model,
        augment: Augment | None = None,
        resident: Resident | None = None,
        sampled: Sampled | None = None,
    ) -> None:
        super().__init__(name="supplied")
        self.network, self.augment, self.resident = network, augment, resident
        self.sampled = sampled

    def call(self, batch: Any, training: bool = False) -> Tensors:
        if self.resident is None:
            inputs, masks = batch["inputs"], batch["masks"]
        else:
            inputs, masks = self.resident(batch["indices"])
        if training and self.augment is not None:
            inputs, masks = self.augment(inputs, masks)
        if training and self.sampled is not None:
            masks, logits = self.sampled(inputs, masks, training=training)
            return {"masks": masks, "logits": logits}
        return {"masks": masks, "logits": self.network(inputs, training=training)}

    @property
    def jit_compile(self) -> bool:
        """Whether XLA compiles the steps: Keras leaves it out wherever TF_DETERMINISTIC_OPS is
        set."""
        return distribution.compiles()

    @jit_compile.setter
    def jit_compile(self, value: bool) -> None:
        """What `compile` sets is not asked for."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor:
        """The loss of the logits, against the masks that belong to them."""
        return super().compute_loss(x, y_pred["masks"], y_pred["logits"], training=training)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The metrics, likewise."""
        return super().compute_metrics(x, y_pred["masks"], y_pred["logits"])

    def build_for(self, batch: Any) -> None:
        """Have Keras build what it builds for the shapes of a batch, for which it takes one from
        the stream, and does not use it. Its public `test_on_batch` compiles a step as well."""
        self._symbolic_build(data_batch=batch)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """With TensorFlow on several devices Keras takes one even if all is built."""

    @property
    def state(self) -> list[keras.Variable]:
        """What training changes: weights and states of random numbers, not the resident arrays."""
        kept = {id(array) for array in self.resident.variables} if self.resident else set()
        variables = *self.trainable_variables, *self.non_trainable_variables
        return [variable for variable in variables if id(variable) not in kept]


def joined(splits: Sequence[Batches]) -> dict[str, np.ndarray]:
    """Inputs and masks of splits, one after the other, and of a picture of which every pixel is
    ignored."""
    pictures = sum(len(batches.reader) for batches in splits)
    inputs, masks = taken = room_for(splits[0].reader, pictures + 1)
    start = 0
    for batches in splits:
        read_into(taken, batches.reader, start)
        start += len(batches.reader)
    named = inputs if isinstance(inputs, dict) else {PICTURES: inputs}
    for array in named.values():
        array[-1] = 0
    masks[-1] = IGNORED
    return {**named, "masks": masks}


def resident(name: str, array: np.ndarray) -> keras.Variable:
    """An array in the device's memory."""
    return keras.Variable(array, dtype=array.dtype.name, trainable=False, autocast=False, name=name)


def resident_bytes(arrays: Sequence[int]) -> int:
    """Bytes that arrays of so many take while they are brought into memory: the largest three
    times, as TensorFlow makes two copies of an array before it lets go of one."""
    return sum(arrays) + 2 * max(arrays)
