"""The machine's GPUs, training on all of them, and on those of other machines too."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import keras
import psutil

from stages.shared.runtime.errors import UserError

# Keras's own names: how many processes train one network together, and which this one is.
PROCESSES, PROCESS = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"
XLA = "XLA"
THREADS_OF_A_GPU = 2
# Where a container says what it may use.
CONTAINER = Path("/sys/fs/cgroup")


def gpus() -> list[str]:
    """The GPUs that Keras's backend sees, in its names."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def lowest(quantity: str) -> float:
    """The lowest value over the machine's NVIDIA GPUs; 0.0 if the driver won't say.

    Args:
        quantity: as `nvidia-smi --help-query-gpu` names it.
    """
    command = ["nvidia-smi", f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return min(float(line) for line in answer.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0.0


def memory() -> int:
    """Bytes of a GPU's memory, of several the smallest's, but no more than half of what the machine
    has free; without one, of what the machine, or the container that this runs in, has free."""
    free = psutil.virtual_memory().available
    if gpus():
        # What lies there comes by way of the machine's memory.
        return min(int(lowest("memory.total") * 2**20), free // 2)
    try:
        limit, used = (
            int((CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current")
        )
    except (OSError, ValueError):
        return free
    return max(min(free, limit - used), 0)


def processes() -> int:
    """How many processes train one network together, each on a machine of its own."""
    return int(os.environ.get(PROCESSES, 1))


def process() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get(PROCESS, 0))


def join() -> None:
    """Connect to the other training processes, if any; call it before any computation.

    Raises:
        UserError: there are, and Keras runs on another backend than JAX.
    """
    if processes() == 1:
        return
    if keras.backend.backend() != "jax":
        raise UserError(
            f"{PROCESSES} is {processes()}, and Keras runs on {keras.backend.backend()}; several "
            "processes need JAX: install it and set KERAS_BACKEND=jax"
        )
    keras.distribution.initialize()


def threads() -> int:
    """How many threads keep the GPUs busy: while one of a GPU's two waits for files, the other
    computes. One without a GPU."""
    return THREADS_OF_A_GPU * len(gpus()) or 1


@cache
def _free() -> SimpleQueue[str]:
    free: SimpleQueue[str] = SimpleQueue()
    for name in THREADS_OF_A_GPU * gpus():
        free.put(name)
    return free


@contextmanager
def one_for_a_thread() -> Iterator[str | None]:
    """A scope in which a thread computes on a GPU that as few others as can be have.

    Yields:
        Its name; None, and nothing changes, with fewer than two.
    """
    if len(gpus()) < 2:
        yield None
        return
    name = _free().get()
    try:
        with keras.device(name):
            yield name
    finally:
        _free().put(name)


def together() -> AbstractContextManager[None]:
    """A scope in which models are built and trained on all GPUs of all processes.

    Each computes its share of a batch, and the gradients are summed. With fewer than two GPUs and
    one process it changes nothing.
    """
    if processes() == 1:
        return all_gpus()
    # A data set of Keras's own is not split for the processes; `training.Batches` does that.
    return keras.distribution.DataParallel(auto_shard_dataset=False).scope()


def replicas() -> int:
    """How many devices train one network together, each on its share of a batch that it sees alone.

    One with JAX: there a batch is one array, whatever devices it lies on.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


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


def all_gpus() -> AbstractContextManager[None]:
    """A scope in which models are built and trained on all GPUs that TensorFlow sees.

    Each computes its share of a batch, and the gradients are summed. With fewer than two, or
    another backend, it changes nothing.
    """
    if keras.backend.backend() != "tensorflow" or len(gpus()) < 2:
        return nullcontext()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy().scope()


def compiles() -> bool:
    """Whether XLA compiles a network here: with JAX always, with TensorFlow on a GPU, but not where
    several train one network together and sum inside a step. On a CPU it takes longer than it
    saves.

    For TensorFlow the environment's `XLA=on` and `XLA=off` decide otherwise.

    Raises:
        UserError: XLA is something else.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    wanted = os.environ.get(XLA, "")
    if wanted not in ("", "on", "off"):
        raise UserError(f"the environment's {XLA} is {wanted!r}; it should be on or off")
    return replicas() == 1 and (wanted == "on" or (wanted != "off" and bool(gpus())))


def arithmetic() -> list[Any]:
    """What decides the last bits of what is computed: the backend, its GPUs, and XLA."""
    return [keras.backend.backend(), gpus(), compiles()]
