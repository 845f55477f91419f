"""Shards made on this machine: one after the other, or on several devices at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from stages.shared.engines.engine import AnyPart, ShardTask, Tick


class Local:
    """Makes a shard when it is waited for."""

    ahead = 0

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        return partial(task.make, folder, tick)


class Threads:
    """Makes several shards at once, each in a thread."""

    def __init__(self, pool: ThreadPoolExecutor, ahead: int) -> None:
        self.pool, self.ahead, self.stopped = pool, ahead, Event()

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        return self.pool.submit(task.make, folder, self._until_stopped(tick)).result

    def _until_stopped(self, tick: Tick) -> Tick:
        """The same, but it ends a task that nobody waits for any more."""

        def ticked(pictures: int) -> None:
            if self.stopped.is_set():
                raise InterruptedError
            tick(pictures)

        return ticked


@contextmanager
def running(at_once: int = 1) -> Iterator[Local | Threads]:
    """The engine; there is nothing to start.

    Args:
        at_once: how many shards are made at the same time.
    """
    if at_once == 1:
        yield Local()
        return
    engine = Threads(ThreadPoolExecutor(at_once), at_once - 1)
    try:
        yield engine
    finally:
        # By Ctrl-C or an error; else all has been waited for.
        engine.stopped.set()
        engine.pool.shutdown(cancel_futures=True)
