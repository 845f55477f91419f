"""The engine that `engine` in params.yaml names; no stage depends on it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from stages.shared.engines import local, ray
from stages.shared.engines.engine import Engine
from stages.shared.engines.settings import DEFAULT_ENGINE, EngineName, Ray
from stages.shared.settings.reading import read

ENGINES: dict[str, Callable[[int], AbstractContextManager[Engine]]] = {
    "local": local.running,
    "ray": lambda _: ray.running(read("ray", Ray, default=Ray())),
}


def running(devices: int = 1) -> AbstractContextManager[Engine]:
    """The engine, for as long as the context lasts.

    Args:
        devices: of this machine, on each of which a shard can be made.
    """
    return ENGINES[read("engine", EngineName, default=DEFAULT_ENGINE)](devices)
