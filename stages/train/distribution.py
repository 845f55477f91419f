"""One network trained by several devices: all GPUs of this machine, or of several machines."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from stages.shared.networks import devices
from stages.shared.runtime.errors import UserError

# Keras's own names: how many processes train one network together, and which this one is.
PROCESSES, PROCESS = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"


def processes() -> int:
    """How many processes train one network together, each on a machine of its own.

    Raises:
        UserError: the environment has something else than a number.
    """
    return _number(PROCESSES, 1)


def process() -> int:
    """Which of them this is, from 0."""
    return _number(PROCESS, 0)


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    if not value.isdecimal():
        raise UserError(f"{variable} is {value!r}; it should be a number")
    return int(value)


def join() -> None:
    """Connect to the other training processes, if any; call it before any computation.

    Raises:
        UserError: there are, and Keras runs on another backend than JAX, or this is none of them.
    """
    if processes() == 1:
        return
    if process() >= processes():
        raise UserError(
            f"{PROCESS} is {process()} and {PROCESSES} {processes()}; the first process is 0"
        )
    if keras.backend.backend() != "jax":
        raise UserError(
            f"{PROCESSES} is {processes()}, and Keras runs on {keras.backend.backend()}; several "
            "processes need JAX: install it and set KERAS_BACKEND=jax"
        )
    keras.distribution.initialize()


def scope() -> AbstractContextManager[None]:
    """A scope in which models are built and trained on all GPUs of all processes.

    Each computes its share of a batch, and the gradients are summed. With fewer than two GPUs and
    one process it changes nothing.
    """
    if processes() == 1 and len(devices.gpus()) < 2:
        return nullcontext()
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.distribute.MirroredStrategy().scope()
        case "jax":
            # A data set of Keras's own is not split for the processes; `Batches` does that.
            return keras.distribution.DataParallel(auto_shard_dataset=False).scope()
    return nullcontext()


def shares() -> int:
    """Into how many equal shares a batch is divided, one for each device of all processes; in
    `scope`."""
    if keras.backend.backend() == "jax" and (every := keras.distribution.distribution()):
        return every.num_model_replicas
    return replicas()


def replicas() -> int:
    """How many devices train one network together, each on its share of a batch that it sees alone.

    One with JAX: there a batch is one array, whatever devices it lies on.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def looks_ahead() -> bool:
    """Whether Keras looks at a batch before it builds a model: not with TensorFlow on one device,
    where it builds while it traces the first step."""
    return keras.backend.backend() != "tensorflow" or replicas() > 1


def loops() -> bool:
    """Whether several batches' steps are one computation: with JAX, on one GPU. On a processor XLA
    computes a loop on one core."""
    return keras.backend.backend() == "jax" and len(devices.gpus()) == 1 and processes() == 1


def replica() -> Any:
    """Which of them this is, from 0; inside a step."""
    if replicas() == 1:
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group if context else 0


def summed(values: Any) -> Any:
    """The sum over all devices of what each has, a tensor or a list of them; inside a step."""
    if replicas() == 1:
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    # There is none while Keras builds a model from the shapes alone.
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values) if context else values


def compiles() -> bool:
    """Whether XLA compiles the steps: where it compiles at all, but not where several devices sum
    inside a step.

    Raises:
        UserError: see `devices.compiles`.
    """
    return replicas() == 1 and devices.compiles()
