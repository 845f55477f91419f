"""A parallel, ordered `map` with bounded memory."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

# Of a process that has a share of the machine's cores; OMP_NUM_THREADS is about the arithmetic.
THREADS = "STAGE_THREADS"
# Where a container says what it may use: microseconds of processors in each period, or `max`.
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int = 4,
    threads: int | None = None,
) -> Iterator[Result]:
    """`map` in threads: one for each core, or as many as STAGE_THREADS says.

    Args:
        function: what it raises is raised when its result is asked for.
        items: are taken as they are needed.
        ahead: items for each thread that may be under way or wait to be asked for.
        threads: the most of them; None: one for each core.

    Yields:
        The results, in the order of the items.
    """
    cores = min(shared_cores(), threads or shared_cores())
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) > ahead * cores:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            # What was not begun when this is left early.
            pool.shutdown(cancel_futures=True)


def shared_cores() -> int:
    """Cores of this machine, or of the container that this runs in, that the process may use."""
    return int(os.environ.get(THREADS) or min(len(os.sched_getaffinity(0)), quota()))


def quota(limit: Path = CPU_LIMIT) -> float:
    """Cores that a container may keep busy, rounded up."""
    try:
        microseconds, period = limit.read_text().split()
        return math.ceil(int(microseconds) / int(period))
    except (OSError, ValueError):
        # There is none, or it is `max`.
        return math.inf
