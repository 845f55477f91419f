"""Shards made on this machine: one after the other, or several at once, on devices or in processes.

Python code of one process runs on one core at a time. What is mostly such code, as the decoding of
pictures is on many cores, goes to processes; what computes on devices, to threads.
"""

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event
from typing import NamedTuple

from stages.shared.engines.engine import AnyPart, ShardTask, Tick
from stages.shared.runtime import start
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import THREADS

Make = Callable[[Path, Tick], AnyPart]
# Others would have a copy of all threads' locks (fork), or import all for each process (spawn).
CONTEXT = multiprocessing.get_context("forkserver")
STOPPED_WITHIN_SECONDS = 0.2


class Processes(NamedTuple):
    """Processes of which each makes a shard.

    Attributes:
        imports: modules that are imported once for all of them.
        threads: of each.
    """

    imports: tuple[str, ...]
    threads: int = 1


class Local:
    """Makes a shard when it is waited for."""

    ahead = 0

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        return partial(task.make, folder, tick)


class AtOnce:
    """Makes several shards at once, each in a thread, which may wait for a process."""

    def __init__(self, at_once: int, processes: Processes | None) -> None:
        self.pool, self.processes, self.stopped = ThreadPoolExecutor(at_once), processes, Event()
        # A process more is ready to go on while the first shard is put away.
        self.ahead = at_once if processes else at_once - 1

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        make: Make[AnyPart] = task.make
        if self.processes:
            make = partial(in_process, task, self.processes.threads, self.stopped)
        return self.pool.submit(make, folder, self._until_stopped(tick)).result

    def _until_stopped(self, tick: Tick) -> Tick:
        """The same, but it ends a task that nobody waits for any more."""

        def ticked(pictures: int) -> None:
            if self.stopped.is_set():
                raise InterruptedError
            tick(pictures)

        return ticked


def in_process(
    task: ShardTask[AnyPart], threads: int, stopped: Event, folder: Path, tick: Tick
) -> AnyPart:
    """Make a shard in a process of its own.

    Args:
        task: to do there.
        threads: of the process.
        stopped: ends it.
        folder: where its files belong.
        tick: is called with the number of finished pictures.

    Raises:
        UserError: the process has died.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    given = (task.make, Path.cwd(), threads, folder, sender)
    process = CONTEXT.Process(target=send, args=given, daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            while not receiver.poll(STOPPED_WITHIN_SECONDS):
                if stopped.is_set():
                    raise InterruptedError
            try:
                told = receiver.recv()
            except (EOFError, OSError):
                # OSError: it has died within a message.
                raise died(task.name, process) from None
            if isinstance(told, int):
                tick(told)
            elif isinstance(told, BaseException):
                raise told
            else:
                part: AnyPart = told
                return part
    finally:
        process.terminate()
        process.join()
        receiver.close()


def died(shard: str, process: BaseProcess) -> UserError:
    """What to say of a process that has died while it made a shard."""
    process.join()
    killed = "; if memory ran out, use fewer cores: taskset -c 0-3 dvc repro"
    return UserError(
        f"the process that made the shard {shard} ended with the exit code "
        f"{process.exitcode}{killed if process.exitcode == -signal.SIGKILL else ''}"
    )


def send(make: Make[AnyPart], cwd: Path, threads: int, folder: Path, sender: Connection) -> None:
    """Make a shard, and send the number of pictures as they are finished, then what it is, or the
    exception that was raised."""
    start.keep_freed_memory()
    os.chdir(cwd)
    os.environ[THREADS] = str(threads)
    try:
        sender.send(make(folder, sender.send))
    except BrokenPipeError:
        # Nobody waits any more.
        return
    except Exception as error:
        sender.send(sendable(error))


def sendable(error: Exception) -> Exception:
    """An exception that tells another process the same, with its traceback if it is a bug."""
    if isinstance(error, UserError):
        return error
    told = traceback.format_exc()
    error.add_note(f"In a process of its own:\n{told}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(told)
    return error


def serve(imports: Sequence[str]) -> None:
    """Start the server that new processes are forked from, which imports some modules.

    Ctrl-C reaches all processes of a terminal: these ignore it, and the one that waits ends them.
    """
    CONTEXT.set_forkserver_preload(list(imports))
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def running(at_once: int = 1, processes: Processes | None = None) -> Iterator[Local | AtOnce]:
    """The engine.

    Args:
        at_once: how many shards are made at the same time.
        processes: in which they are made; None: in threads of this one.
    """
    if at_once == 1:
        yield Local()
        return
    if processes:
        serve(processes.imports)
    engine = AtOnce(at_once, processes)
    try:
        yield engine
    finally:
        # By Ctrl-C or an error; else all has been waited for.
        engine.stopped.set()
        engine.pool.shutdown(cancel_futures=True)
