"""The machine's GPUs: predicting on them, compiled, and training on all of them, and on those of
other machines too."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import psutil

from stages.shared.runtime.errors import UserError

# Keras's own names: how many processes train one network together, and which this one is.
PROCESSES, PROCESS = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"
# The environment's, whether TensorFlow's networks are compiled by XLA: on or off.
XLA = "XLA"
# Where a container says what it may use.
CONTAINER = Path("/sys/fs/cgroup")
THREADS_OF_A_GPU = 2
# Batches that a device may compute while the host takes what it answered to the one before.
AHEAD = 1

Batch = TypeVar("Batch")


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

    Example:
        >>> predict = Compiled(network)
        >>> first, second = predict(pictures), predict(others)
        >>> logits = first.arrays()  # while the device computes the second
    """

    def __init__(self, model: keras.Model) -> None:
        self._predict = PREDICTIONS[keras.backend.backend()](model)
        self._compiles, self._largest = compiles(), 0
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

    function = tf.function(lambda inputs: model(inputs, training=False), jit_compile=compiles())

    def free(array: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    def predict(inputs: Any) -> Any:
        # One graph for all sizes of a batch: a graph of its own may round otherwise.
        graph = function.get_concrete_function(keras.tree.map_structure(free, inputs))
        return graph(keras.tree.map_structure(tf.constant, inputs))

    return predict


def by_jax(model: keras.Model) -> Callable[[Any], Any]:
    """A model as a `jax.jit` of its weights and the inputs."""
    import jax

    weights = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    @jax.jit
    def function(weights: list[list[Any]], inputs: Any) -> Any:
        return model.stateless_call(*weights, inputs, training=False)[0]

    def predict(inputs: Any) -> Any:
        outputs = function(weights, inputs)
        for output in jax.tree.leaves(outputs):
            output.copy_to_host_async()
        return outputs

    return predict


def by_torch(model: keras.Model) -> Callable[[Any], Any]:
    """A model as it is, layer by layer."""
    return model.predict_on_batch


PREDICTIONS = {"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}
