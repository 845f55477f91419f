"""Imports modules when first asked, and forks itself for each command that `client.py` hands it.

    python parent.py LISTENER MODULE...

LISTENER is the number of a listening socket. It ends when its standard input does.
"""

import array
import atexit
import gc
import importlib
import io
import marshal
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

LIFELINE = 0


class Child(NamedTuple):
    """A process that was forked: its number, a descriptor of it, and who waits for it."""

    process: int
    descriptor: int
    caller: socket.socket


class Wanted(NamedTuple):
    """What a caller wants run, and the streams it gave for it."""

    what: dict[str, Any]
    streams: list[int]


def serve(listener: socket.socket, modules: list[str]) -> Wanted | None:
    """Fork for each caller; returns in each child, and with None when there is nothing more to do.

    One thread does it all, for what other threads hold at a fork stays held in the child.
    """
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(LIFELINE, selectors.EVENT_READ)
    children: list[Child] = []
    while True:
        for key, _ in selector.select():
            if key.fd == LIFELINE:
                for child in children:
                    os.kill(child.process, signal.SIGKILL)
                return None
            if key.fileobj is listener:
                for module in modules:
                    importlib.import_module(module)
                if modules:
                    modules = []
                    # Collecting garbage would write to all that the children share.
                    gc.collect()
                    gc.freeze()
                caller, _ = listener.accept()
                wanted = received(caller)
                if wanted is None:
                    caller.close()
                    continue
                process = os.fork()
                if process == 0:
                    for other in children:
                        os.close(other.descriptor)
                        other.caller.close()
                    caller.close()
                    listener.close()
                    selector.close()
                    return wanted
                for stream in wanted.streams:
                    os.close(stream)
                child = Child(process, os.pidfd_open(process), caller)
                children.append(child)
                selector.register(child.descriptor, selectors.EVENT_READ, child)
                selector.register(caller, selectors.EVENT_READ, child)
                say(caller, process)
            elif key.data in children:
                child = key.data
                if key.fileobj is child.caller:
                    # It says nothing, so it was killed.
                    os.kill(child.process, signal.SIGKILL)
                    selector.unregister(child.caller)
                    continue
                _, status = os.waitpid(child.process, 0)
                say(child.caller, os.waitstatus_to_exitcode(status))
                selector.unregister(child.descriptor)
                if child.caller in selector.get_map():
                    selector.unregister(child.caller)
                os.close(child.descriptor)
                child.caller.close()
                children.remove(child)


def received(caller: socket.socket) -> Wanted | None:
    """What a caller wants; None if it is gone."""
    message, ancillary, *_ = caller.recvmsg(8, socket.CMSG_SPACE(12))
    if not ancillary:
        return None
    streams = list(array.array("i", ancillary[0][2]))
    message += caller.recv(8 - len(message), socket.MSG_WAITALL)
    content = io.BytesIO()
    while content.tell() < int.from_bytes(message):
        content.write(caller.recv(int.from_bytes(message) - content.tell()))
    return Wanted(marshal.loads(content.getvalue()), streams)


def say(caller: socket.socket, number: int) -> None:
    """Tell a caller a number, if it is still there."""
    with suppress(OSError):
        caller.send(f"{number}\n".encode(), socket.MSG_NOSIGNAL)


def become(wanted: Wanted) -> None:
    """Be what a new process of the caller's would be."""
    what = wanted.what
    # What ends this process's group is not for the parent.
    os.setsid()
    for number, stream in enumerate(wanted.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environb.clear()
    os.environb.update(what["environment"])
    os.environ["CALLERS_GROUP"] = str(what["group"])
    os.chdir(what["folder"])
    os.umask(what["umask"])
    os.sched_setaffinity(0, what["cores"])
    for number in what["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=unbuffered or os.isatty(1))
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if "numpy" in sys.modules:
        # Every child has the parent's state, and what forgets to set a seed is not to profit by it.
        sys.modules["numpy"].random.seed()
    if "tempfile" in sys.modules:
        # Where the parent has found it to be.
        sys.modules["tempfile"].tempdir = None
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in added if path]
    importlib.invalidate_caches()
    sys.orig_argv = what["command"]
    if os.environ.get("COVERAGE_PROCESS_CONFIG") or os.environ.get("COVERAGE_PROCESS_START"):
        coverage = importlib.import_module("coverage")
        coverage.process_startup(slug="warm")
    if any(Path(path, "sitecustomize.py").exists() for path in added if path):
        sys.modules.pop("sitecustomize", None)
        try:
            importlib.import_module("sitecustomize")
        except Exception:
            # Python goes on, too.
            traceback.print_exc()


def run(command: list[str]) -> None:
    """Run `python -m MODULE ARGUMENT...`, or the script that the command is, as its main module."""
    program, *arguments = command
    main = sys.modules["__main__"] = ModuleType("__main__")
    if arguments[:1] == ["-m"]:
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = arguments[:1] + arguments[2:]
        # What `python -m` calls.
        runpy._run_module_as_main(arguments[1])
    else:
        sys.path.insert(0, str(Path(program).parent))
        sys.argv, main.__file__ = command, program
        exec(compile(Path(program).read_bytes(), program, "exec"), main.__dict__)


def ended(command: list[str]) -> int:
    """Run a command to its end; its exit status, below 0 the signal that it is to end with."""
    status = 0
    try:
        run(command)
    except SystemExit as end:
        if isinstance(end.code, int):
            status = end.code & 0xFF
        elif end.code is not None:
            print(end.code, file=sys.stderr)
            status = 1
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    # As Python does when it ends.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    return status


if __name__ == "__main__":
    # The folder of this file is nobody's.
    del sys.path[0]
    if found := serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]):
        become(found)
        status = ended(found.what["command"])
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        # Taking TensorFlow down takes as long as many a stage.
        os._exit(status)
