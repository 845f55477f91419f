"""Shards made on this machine: one after the other, or several at once, on devices or in processes.

Python code of one process runs on one core at a time. What is mostly such code, as the decoding of
pictures is on many cores, goes to processes; what computes on devices, to threads.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from typing import NamedTuple

from stages.shared.engines.engine import AnyPart, ShardTask, Tick
from stages.shared.runtime import start
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import THREADS

Make = Callable[[Path, Tick], AnyPart]


class Processes(NamedTuple):
    """Processes of which each makes a shard.

    Attributes:
        imports: modules that are imported once for all of them; none: there are no processes.
        threads: of each.
    """

    imports: tuple[str, ...] = ()
    threads: int = 1


IN_THIS_PROCESS = Processes()


class Local:
    """Makes a shard when it is waited for."""

    ahead = 0

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        return partial(task.make, folder, tick)


class AtOnce:
    """Makes several shards at once, each in a thread, which may wait for a process."""

    def __init__(self, pool: ThreadPoolExecutor, at_once: int, processes: Processes) -> None:
        self.pool, self.processes, self.stopped = pool, processes, Event()
        # A process more is ready to go on while the first shard is put away.
        self.ahead = at_once if processes.imports else at_once - 1

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        make: Make[AnyPart] = task.make
        if self.processes.imports:
            make = partial(in_process, task, self.processes.threads)
        return self.pool.submit(make, folder, self._until_stopped(tick)).result

    def _until_stopped(self, tick: Tick) -> Tick:
        """The same, but it ends a task that nobody waits for any more."""

        def ticked(pictures: int) -> None:
            if self.stopped.is_set():
                raise InterruptedError
            tick(pictures)

        return ticked


def in_process(task: ShardTask[AnyPart], threads: int, folder: Path, tick: Tick) -> AnyPart:
    """Make a shard in a process of its own.

    Raises:
        UserError: the process has died.
    """
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    given = (task.make, Path.cwd(), threads, folder, sender)
    process = context.Process(target=send, args=given, daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            told = receiver.recv()
            if isinstance(told, int):
                tick(told)
            elif isinstance(told, BaseException):
                raise told
            else:
                part: AnyPart = told
                return part
    except EOFError:
        process.join()
        raise UserError(
            f"the process that made the shard {task.name} was ended (exit code "
            f"{process.exitcode}); if memory ran out, use a smaller dataset.shard_size or fewer "
            "cores (taskset)"
        ) from None
    finally:
        process.terminate()
        process.join()
        receiver.close()


def send(make: Make[AnyPart], cwd: Path, threads: int, folder: Path, sender: Connection) -> None:
    """Make a shard, and send the number of pictures as they are finished, then what it is, or the
    exception that was raised."""
    # Ctrl-C reaches all processes; the one that waits for this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start.keep_freed_memory()
    os.chdir(cwd)
    os.environ[THREADS] = str(threads)
    try:
        sender.send(make(folder, sender.send))
    except BrokenPipeError:
        # Nobody waits any more.
        return
    except Exception as error:
        if not isinstance(error, UserError):
            error.add_note(f"In a process of its own:\n{traceback.format_exc()}")
        sender.send(error)


@contextmanager
def running(at_once: int = 1, processes: Processes = IN_THIS_PROCESS) -> Iterator[Local | AtOnce]:
    """The engine.

    Args:
        at_once: how many shards are made at the same time.
        processes: in which they are made.
    """
    if at_once == 1:
        yield Local()
        return
    if processes.imports:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(processes.imports))
    engine = AtOnce(ThreadPoolExecutor(at_once), at_once, processes)
    try:
        yield engine
    finally:
        # By Ctrl-C or an error; else all has been waited for.
        engine.stopped.set()
        engine.pool.shutdown(cancel_futures=True)
