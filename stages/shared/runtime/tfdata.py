"""TensorFlow's data sets."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def untuned() -> "tf.data.Options":
    """Options of a data set without autotuning.

    The thread that tunes may not hear that it should end: `Model::OptimizeLoop` of
    tensorflow/core/framework/model.cc is woken before `IsCancelled` holds, and sleeps on. Who drops
    the iterator waits for it, 20 s after it has read for half a minute, up to a minute after more.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options
