"""The engine that `engine` in params.yaml names; no stage depends on it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from stages.shared.engines import local, ray
from stages.shared.engines.engine import Engine
from stages.shared.engines.local import Processes
from stages.shared.engines.settings import DEFAULT_ENGINE, EngineName, Ray
from stages.shared.settings.reading import read

ENGINES: dict[str, Callable[[int, Processes | None], AbstractContextManager[Engine]]] = {
    "local": local.running,
    "ray": lambda *_: ray.running(read("ray", Ray, default=Ray())),
}


def running(at_once: int = 1, processes: Processes | None = None) -> AbstractContextManager[Engine]:
    """The engine, for as long as the context lasts.

    Args:
        at_once: shards that this machine makes at the same time.
        processes: in which it makes them; None: in threads.
    """
    return ENGINES[read("engine", EngineName, default=DEFAULT_ENGINE)](at_once, processes)
