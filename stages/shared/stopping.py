"""Ctrl-C: ends a stage within seconds, whatever library it is in, and says where it stands."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Time that the main thread gets to stop by itself; it can't while it is inside a long operation.
GRACE_SECONDS = 3

_standing: list[str] = []


def stands(text: str) -> None:
    """Note what would be kept if the stage were stopped now."""
    _standing[:] = [text]


def standing() -> str:
    """What is kept, and how to go on."""
    if _standing:
        return f"stopped; {_standing[0]}, and `dvc repro` goes on from there"
    return "stopped; `dvc repro` starts this stage again"


@contextmanager
def in_time(message: Callable[[], str]) -> Iterator[None]:
    """End the process some seconds after Ctrl-C, even if Python does not get to act on it.

    Nothing is lost by that: what is finished lies on the disk, what is not lies beside the outs.

    Args:
        message: what to say then, on stderr.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, message), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(writer)


def _watch(reader: int, message: Callable[[], str]) -> None:
    """Wait for the signal, then for the main thread, then no more."""
    while number := os.read(reader, 1):
        if number[0] == signal.SIGINT:
            time.sleep(GRACE_SECONDS)
            print(f"\n{message()}", file=sys.stderr, flush=True)
            os._exit(1)
    os.close(reader)
