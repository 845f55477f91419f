"""The machine's GPUs: which there are, their memory, and what computes on them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

import keras
import psutil

from stages.shared.runtime.errors import UserError

# The environment's, whether TensorFlow's networks are compiled by XLA: on or off.
XLA = "XLA"
# Where a container says what it may use.
CONTAINER = Path("/sys/fs/cgroup")
CACHED = ("inactive_file", "active_file")
THREADS_OF_A_GPU = 2


def gpus() -> list[str]:
    """The GPUs that Keras's backend sees, in its names."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def lowest(quantity: str) -> float | None:
    """The lowest value over the machine's NVIDIA GPUs; None if no driver says.

    Args:
        quantity: as `nvidia-smi --help-query-gpu` names it.
    """
    command = ["nvidia-smi", f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return min(float(line) for line in answer.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


class Memory(NamedTuple):
    """Bytes of memory.

    Attributes:
        device: of a GPU, or without one of the machine.
        machine: of the machine.
    """

    device: float
    machine: float


def memory(share: float = 1.0) -> Memory:
    """A share of what is free, of several GPUs on the fullest; on a GPU no more than half of what
    the machine has free, for it comes by way of that.

    To be asked before anything is computed: then the backend takes most of a GPU's memory, to share
    it out itself.
    """
    # Ahead of `gpus`, which has TensorFlow take it.
    free, mebibytes = free_memory(), lowest("memory.free")
    on_gpu = free if mebibytes is None else mebibytes * 2**20
    on_device = min(on_gpu, free / 2) if gpus() else free
    return Memory(share * on_device, share * free)


def free_memory() -> int:
    """Bytes that the machine, or the container that this runs in, has free."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (
            int((CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current")
        )
        rows = (line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        # Files that are cached count as used, and give way.
        cached = sum(int(value) for name, value in rows if name in CACHED)
    except (OSError, ValueError):
        return free
    return max(min(free, limit - used + cached), 0)


def threads() -> int:
    """How many threads keep the GPUs busy: while one of a GPU's two waits for files, the other
    computes. One without a GPU."""
    return THREADS_OF_A_GPU * len(gpus()) or 1


# Of two threads that ask first, one counts: `cache` would let both.
_counting = Lock()


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
    with _counting:
        free = _free()
    name = free.get()
    try:
        with keras.device(name):
            yield name
    finally:
        free.put(name)


def compiles() -> bool:
    """Whether XLA compiles a network here: with JAX always, with TensorFlow on a GPU. On a CPU it
    takes longer than it saves.

    For TensorFlow the environment's `XLA=on` and `XLA=off` decide otherwise.

    Raises:
        UserError: XLA is something else.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    wanted = os.environ.get(XLA, "")
    if wanted not in ("", "on", "off"):
        raise UserError(f"the environment's {XLA} is {wanted!r}; it should be on or off")
    return wanted == "on" or (wanted != "off" and bool(gpus()))


def arithmetic() -> list[Any]:
    """What decides the last bits of what is computed: the backend, its GPUs, and XLA."""
    return [keras.backend.backend(), gpus(), compiles()]
