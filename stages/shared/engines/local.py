"""Shards made on this machine, one after the other, each on all cores."""

from collections.abc import Callable, Iterator
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


@contextmanager
def running() -> Iterator[Local]:
    """The engine; there is nothing to start."""
    yield Local()
