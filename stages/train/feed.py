"""How Keras's `fit` and `evaluate` get their batches."""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import keras

from stages.shared.runtime.tfdata import untuned
from stages.train.batches import Batch

if TYPE_CHECKING:
    import tensorflow as tf


def feed(stream: Iterator[tuple[Batch]]) -> "Iterator[tuple[Batch]] | tf.data.Dataset":
    """A stream of batches as Keras should read it, once.

    With TensorFlow that is a data set without autotuning; the one that Keras makes of a generator
    has it.

    Args:
        stream: at least one batch; all are alike but for the number of pictures.

    Raises:
        UserError: a file is damaged.
    """
    if keras.backend.backend() != "tensorflow":
        return stream
    import tensorflow as tf

    first = next(stream)
    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), first
    )
    batches = tf.data.Dataset.from_generator(
        lambda: chain([first], stream), output_signature=signature
    )
    return batches.prefetch(1).with_options(untuned())
