"""Predicting with a model, compiled, while the device computes the next batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np

from stages.shared.networks import devices

# Batches that a device may compute while the host takes what it answered to the one before.
AHEAD = 1

Batch = TypeVar("Batch")


class Answer(NamedTuple):
    """What a model answers to a batch; the device may still be computing it.

    Attributes:
        tensors: the model's outputs; what follows the batch's `size` in them is of no meaning.
        size: of the batch.
    """

    tensors: Any
    size: int

    def array(self, tensor: Any) -> np.ndarray:
        """One of the tensors, once it is computed."""
        return np.asarray(tensor)[: self.size]

    def arrays(self) -> Any:
        """All of them."""
        return keras.tree.map_structure(self.array, self.tensors)


class Compiled:
    """Predicts with a model as it is now; several threads may at once.

    `keras.Model.predict_on_batch` waits for each result, fails in threads under JAX, and leaves XLA
    out under TF_DETERMINISTIC_OPS. XLA compiles for each size of a batch anew, and that may take
    longer than all the rest: there, a smaller batch is filled up to the size of the largest so far.

    Args:
        model: built.
        batch_size: that of most batches, if it is known before they come.

    Example:
        >>> predict = Compiled(network)
        >>> first, second = predict(pictures), predict(others)
        >>> logits = first.arrays()  # while the device computes the second
    """

    def __init__(self, model: keras.Model, batch_size: int = 0) -> None:
        self._predict = PREDICTIONS[keras.backend.backend()](model)
        self._compiles, self._largest = devices.compiles(), batch_size
        # Of two threads that ask at first, one compiles.
        self._lock = Lock()

    def __call__(self, inputs: Any) -> Answer:
        """The answer to an array, or a tree of arrays, of a batch."""
        size = len(keras.tree.flatten(inputs)[0])
        with self._lock:
            if self._compiles:
                self._largest = max(self._largest, size)
                missing = self._largest - size
                inputs = keras.tree.map_structure(lambda array: filled(array, missing), inputs)
            return Answer(self._predict(inputs), size)


def in_turn(
    predict: Callable[[Any], Answer], batches: Iterable[tuple[Batch, Any]]
) -> Iterator[tuple[Batch, Answer]]:
    """Batches, each with its inputs, to the same with the answers, in order; a device computes the
    next one meanwhile."""
    waiting: deque[tuple[Batch, Answer]] = deque()
    for batch, inputs in batches:
        waiting.append((batch, predict(inputs)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def filled(batch: np.ndarray, missing: int, filling: int = 0) -> np.ndarray:
    """A batch, (pictures, ...), followed by so many of this value."""
    if not missing:
        return batch
    return np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1), constant_values=filling)


def by_tensorflow(model: keras.Model) -> Callable[[Any], Any]:
    """A model as a `tf.function`."""
    import tensorflow as tf

    function = tf.function(
        lambda inputs: model(inputs, training=False), jit_compile=devices.compiles()
    )

    def free(array: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    def predict(inputs: Any) -> Any:
        # One graph for all sizes of a batch: a graph of its own may round otherwise.
        graph = function.get_concrete_function(keras.tree.map_structure(free, inputs))
        return graph(keras.tree.map_structure(tf.constant, inputs))

    return predict


def by_jax(model: keras.Model) -> Callable[[Any], Any]:
    """A model as a `jax.jit` of its weights and the inputs.

    A GPU writes what it answers into the machine's memory itself, into a part that stays where it
    is: an H200 at 48 GB/s, where a copy afterwards has 1.4.
    """
    import jax

    weights = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    where = None
    if devices.gpus():
        where = jax.numpy.zeros(()).sharding.with_memory_kind("pinned_host")

    def function(weights: list[list[Any]], inputs: Any) -> Any:
        return model.stateless_call(*weights, inputs, training=False)[0]

    return partial(jax.jit(function, out_shardings=where), weights)


def by_torch(model: keras.Model) -> Callable[[Any], Any]:
    """A model as it is, layer by layer."""
    return model.predict_on_batch


PREDICTIONS = {"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}
