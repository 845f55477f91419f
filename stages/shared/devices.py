"""The machine's GPUs, and training on all of them."""

from contextlib import AbstractContextManager, nullcontext

import keras


def gpus() -> list[str]:
    """The GPUs that Keras's backend sees, in its names."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def all_gpus() -> AbstractContextManager[None]:
    """A scope in which models are built and trained on all GPUs that TensorFlow sees.

    Each computes its share of a batch, and the gradients are summed. With fewer than two, or
    another backend, it changes nothing.
    """
    if keras.backend.backend() != "tensorflow" or len(gpus()) < 2:
        return nullcontext()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy().scope()
