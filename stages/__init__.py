"""The pipeline's stages: one module for each stage of dvc.yaml; what they share is in `shared/`."""

import ctypes
import os
import sys
from pathlib import Path
from types import TracebackType

# Read by TensorFlow when it is first imported, so they are set before any stage imports it. Without
# an NVIDIA driver all that it would log is that it found none.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if Path("/proc/driver/nvidia").exists() else "3")
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
# By default TensorFlow takes oneDNN on processors with AVX-512 alone; with AVX2 it halves the time
# of a convolution's gradients too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks instead of handing them back to the kernel.

    A training step frees and asks for the same large arrays again and again. By default each comes
    back as fresh pages, and on a CPU the page faults take as long as the arithmetic.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_TOP_PAD, 64 << 20)


def _stop_in_a_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Tell of Ctrl-C during the imports, which take seconds, without their traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped before it began", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


_keep_freed_memory()
sys.excepthook = _stop_in_a_line
