"""Keras and TensorFlow as every stage that runs a network imports them."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.shared.runtime.errors import UserError

ENVIRONMENT = {
    "TF_DETERMINISTIC_OPS": "1",
    # By default TensorFlow takes oneDNN on processors with AVX-512 alone; with AVX2 it halves the
    # time of a convolution's gradients too.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # What JAX has compiled for this machine, so that the next process finds it: compiling can take
    # longer than all the rest. Which kernels are the fastest is not measured anew either, which
    # would let a rerun round otherwise.
    "JAX_COMPILATION_CACHE_DIR": str(Path(".dvc/tmp/xla").absolute()),
    # The small as well: building and loading a network takes a hundred of them, a second or two.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**31),
}
# What the libraries log below the level of an error.
LOGGED = re.compile(
    r"WARNING: All log messages before absl|INFO: |[IW]\d{4} |[-\d]+ [:.\d]+: [IW] "
)
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
# What Keras imports if it is there, for plots and for tables as inputs: half a second each for what
# no stage does.
NEEDLESS = ("matplotlib.pyplot", "pandas")


def configure() -> None:
    """Import Keras; to be called before anything else does.

    A variable of the environment that is set already stays as it is.

    Raises:
        UserError: the backend that KERAS_BACKEND names is not installed, or is none.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if NVIDIA_DRIVER.exists() else "3")
    wanted = os.environ.get("KERAS_BACKEND")
    try:
        with hidden(NEEDLESS), quiet():
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        if wanted is None:
            raise
        raise UserError(
            f"KERAS_BACKEND is {wanted!r}, and Keras can't be imported: {error}; unset it, or "
            "install the backend (pip install -c constraints.txt -r extras/jax.txt)"
        ) from None


@contextmanager
def hidden(modules: Iterable[str]) -> Iterator[None]:
    """A scope in which modules that are not yet imported seem not to be installed; afterwards they
    can be imported, as Gradio does with pyplot."""
    added = [name for name in modules if name not in sys.modules]
    # So says the import system: None stands for a module that can't be imported.
    sys.modules.update(dict.fromkeys(added))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def whole_float32() -> None:
    """Have float32 be float32: a GPU of compute capability 8 or more multiplies it as TF32, with 10
    bits for 23, unless it is told not to."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_tensor_float_32_execution(False)
        case "jax":
            import jax

            jax.config.update("jax_default_matmul_precision", "highest")
        case "torch":
            import torch

            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what libraries in C++ log, unless it is an error or is about a GPU that is there.

    TensorFlow logs before it reads TF_CPP_MIN_LOG_LEVEL, straight to the file descriptor.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                about_gpu = NVIDIA_DRIVER.exists() and re.search("gpu|cuda|nvidia", line, re.I)
                if about_gpu or not LOGGED.match(line):
                    print(line, file=sys.stderr)
