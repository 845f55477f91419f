"""Shards as tasks, which an engine makes on this machine or on a Ray cluster.

A shard is made from the files and values that its task names and from nothing else, so it is the
same wherever it is made.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from stages.shared.runtime.outputs import Part, Staging

AnyPart = TypeVar("AnyPart", bound=Part)
# Bytes of pictures that all tasks under way hold together, but for the last.
MOST_CARRIED = 2**31
# Is called with the number of pictures that are done.
Tick = Callable[[int], object]


class ShardTask(NamedTuple, Generic[AnyPart]):
    """A shard to be made.

    Attributes:
        name: of the part, unique among its out's.
        pictures: how many it is made from.
        make: writes its files into a folder and describes them. It can be pickled, and imported by
            its name on another machine.
        carries: bytes of pictures that it holds.
        reads: files of the project that this task alone reads.
        shares: files of the project that every task reads.
    """

    name: str
    pictures: int
    make: Callable[[Path, Tick], AnyPart]
    carries: int = 0
    reads: tuple[Path, ...] = ()
    shares: tuple[Path, ...] = ()


class Engine(Protocol):
    """Makes shards.

    Attributes:
        ahead: tasks that may run before the part of an earlier task is collected.
    """

    ahead: int

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task.

        Args:
            task: what is to be made.
            folder: where its files belong.
            tick: is called with the number of finished pictures.

        Returns:
            A function that waits for the part, and raises the exceptions of the task.
        """


def parts(
    tasks: Iterable[ShardTask[AnyPart]],
    kind: type[AnyPart],
    engine: Engine,
    staging: Staging,
    folder: Path,
    tick: Tick,
) -> Iterator[AnyPart]:
    """The parts of an out, in the order of their tasks; what is finished already is not made again.

    Args:
        tasks: are taken as they are needed.
        kind: of the parts.
        engine: makes them.
        staging: keeps them; the out is its first.
        folder: of the out, in `staging`.
        tick: is called with the number of finished pictures.
    """
    under_way: deque[tuple[ShardTask[AnyPart], Callable[[], AnyPart]]] = deque()

    def held(waiting: Iterable[tuple[ShardTask[AnyPart], object]]) -> int:
        return sum(task.carries for task, _ in waiting)

    def next_part() -> AnyPart:
        task, wait = under_way.popleft()
        part = wait()
        staging.keep(task.name, part)
        return part

    for task in tasks:
        finished = staging.finished(task.name, kind)
        if finished is None:
            under_way.append((task, engine.start(task, folder, tick)))
            while len(under_way) > engine.ahead or held(under_way) > MOST_CARRIED:
                yield next_part()
            continue
        while under_way:
            yield next_part()
        tick(task.pictures)
        yield finished
    while under_way:
        yield next_part()
