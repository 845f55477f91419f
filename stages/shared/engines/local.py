"""Shards made on this machine: one after the other, or on several devices at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

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
        self.pool, self.ahead = pool, ahead

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        return self.pool.submit(task.make, folder, tick).result


@contextmanager
def running(at_once: int = 1) -> Iterator[Local | Threads]:
    """The engine; there is nothing to start.

    Args:
        at_once: how many shards are made at the same time.
    """
    if at_once == 1:
        yield Local()
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        yield Threads(pool, at_once - 1)
    finally:
        # What was not begun when this is left early.
        pool.shutdown(cancel_futures=True)
