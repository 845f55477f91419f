"""Ctrl-C: end a stage within seconds, even inside a library, and print what is kept.

Python acts on a signal between two of its own instructions. A library may be busy for longer than
that, and may keep every thread of the process waiting, so it is another process that watches.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs as Dropped

# Time until Python acts on Ctrl-C; what is stopped then may take its time to clean up.
GRACE_SECONDS = 3
# Time that a process takes to end once it has cleaned up.
END_SECONDS = 3
# Time until Ctrl-C is sent again after it could not be acted on.
AGAIN_SECONDS = 0.1
# What TensorFlow's C++ calls when it makes a tensor of a Python number. An exception raised there
# leaves it with a null pointer, and the process ends with a segmentation fault (`GetContextHandle`
# in tensorflow/python/eager/pywrap_tensor.cc).
FRAGILE = "tensorflow/python/eager/context.py", "_handle"
# What the watching process runs. From its standard input it reads a byte for each signal that the
# watched process gets, one when Python acts on it, one when it could not, one when nothing is left
# but to end, and lines of text: what to say if the process has to be ended. No signal has these
# bytes, nor has text in UTF-8.
ACTED, AGAIN, ENDING = b"\xfd", b"\xfe", b"\xff"
WATCH = f"""
import os, select, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
text, watched, end = b"", int(sys.argv[1]), None
while select.select([0], [], [], end and max(end - time.monotonic(), 0))[0]:
    found = os.read(0, 1)
    if not found:
        sys.exit()
    elif found == bytes([signal.SIGINT]):
        end = end or time.monotonic() + float(sys.argv[2])
    elif found == {ACTED!r}:
        end = None
    elif found == {AGAIN!r}:
        time.sleep({AGAIN_SECONDS})
        os.kill(watched, signal.SIGINT)
    elif found == {ENDING!r}:
        end = time.monotonic() + float(sys.argv[3])
    else:
        text = found if text.endswith(b"\\n") else text + found
if os.getppid() == watched:
    os.kill(watched, signal.SIGKILL)
    print(chr(10) + text.strip().decode(), file=sys.stderr)
"""

_standing: list[str] = []
_watchers: list[int] = []
# Signals that Python has acted on, and watchers of a process that has nothing left but to end.
_acted: list[int] = []
_ending: list[subprocess.Popen[bytes]] = []


def stands(text: str) -> None:
    """Note what would be kept if the stage were stopped now.

    Raises:
        KeyboardInterrupt: it was to stop, and a library dropped the exception: Keras catches all of
            them in places.
    """
    _standing[:] = [text]
    _tell(standing())
    if _acted and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def standing() -> str:
    """What is kept, and how to continue."""
    if _standing:
        return f"stopped; {_standing[0]}, and `dvc repro` continues from there"
    return "stopped; `dvc repro` starts this stage again"


@contextmanager
def in_time(message: Callable[[], str]) -> Iterator[None]:
    """End the process some seconds after Ctrl-C if Python does not get to act on it, or to end
    once it has cleaned up: what is left of a step may wait for itself.

    Nothing is lost: finished parts are on the disk, beside the outs.

    Args:
        message: what to say then, on stderr, unless `stands` was called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    times = str(GRACE_SECONDS), str(END_SECONDS)
    command = [sys.executable, "-I", "-S", "-c", WATCH, str(os.getpid()), *times]
    _acted.clear()
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    assert watcher.stdin is not None
    writer = watcher.stdin.fileno()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _watchers.append(writer)
    _tell(message())
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _act)
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_again, hook)
    try:
        yield
    except KeyboardInterrupt:
        _send(ENDING)
        # It lives as long as this process, whose end closes what it reads.
        _ending.append(watcher)
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is _act:
            signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = hook
        signal.set_wakeup_fd(former)
        _watchers.remove(writer)
        if watcher not in _ending:
            watcher.terminate()
            watcher.communicate()


def _act(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and let the process clean up; in what is fragile, have Ctrl-C sent
    again."""
    file, function = FRAGILE
    if frame and frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file):
        _send(AGAIN)
        return
    _acted.append(number)
    _send(ACTED)
    signal.default_int_handler(number, frame)


def _again(former: "Callable[[Dropped], object]", dropped: "Dropped") -> None:
    """Have Ctrl-C sent again where Python can only drop its exception: in a `__del__`, or in a
    callback of the garbage collection."""
    if dropped.exc_type is KeyboardInterrupt:
        _send(AGAIN)
    else:
        former(dropped)


def _tell(text: str) -> None:
    """Send the watching process the message that it prints if it ends this process."""
    _send(f"{text}\n".encode())


def _send(content: bytes) -> None:
    for writer in _watchers:
        # It may have been killed, or its pipe may be full.
        with suppress(OSError):
            os.write(writer, content)
