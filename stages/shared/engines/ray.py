"""Shards made by the workers of a Ray cluster.

    driver: files that a task reads -> worker: the task, in a folder of its own -> driver: its files

The files go through Ray's own memory, or through a folder of shared storage in which each lies
under its digest, so that records that a worker has left there are read from there when their
features are computed. A worker that dies is replaced, and its task is repeated.
"""

import logging
import os
import re
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

import stages
from stages.shared.engines.engine import AnyPart, ShardTask, Tick
from stages.shared.engines.settings import Ray
from stages.shared.runtime import digests, packages
from stages.shared.runtime.carried import to_another_machine
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import THREADS

# How often a task is done again after its worker has died.
RETRIES = 3
# Tasks submitted for each that can run at once, so that the next one is queued.
QUEUED = 2
# How long the cluster's address may take to answer.
ANSWER_SECONDS = 10
# Variables of the environment that decide how a worker computes.
DECIDING = re.compile(r"TF_|KERAS_BACKEND$|XLA$")


class Carried(NamedTuple):
    """A file on its way to another machine.

    Attributes:
        digest: of it.
        content: it, or None if it lies in shared storage.
    """

    digest: str
    content: bytes | None


class Storage:
    """Files under their digest in a folder that all machines reach.

    Args:
        url: of the folder, as fsspec takes it, such as `s3://bucket/folder`; None to carry files in
            memory.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url

    def require(self) -> None:
        """Fail on a folder in which nothing can be written.

        Raises:
            UserError: says why.
        """
        if self.url is None:
            return
        try:
            system, folder = fsspec.url_to_fs(self.url)
            system.makedirs(folder, exist_ok=True)
            probe = f"{folder}/{uuid.uuid4()}"
            system.pipe_file(probe, b"probe")
            system.rm_file(probe)
        # Each kind of storage has errors of its own, and the package for it may be missing.
        except Exception as error:
            raise UserError(
                f"params.yaml: ray.storage is {self.url!r}, where nothing can be written: {error}"
            ) from None

    def put(self, path: Path) -> Carried:
        """Upload a file to the storage, if it is not there yet."""
        digest = digests.digest(path)
        if self.url is None:
            return Carried(digest, path.read_bytes())
        system, place = fsspec.url_to_fs(self._place(digest))
        if not system.exists(place):
            system.makedirs(system._parent(place), exist_ok=True)
            # Moved into place at the end, so a file under its digest is always complete.
            beside = f"{place}.{uuid.uuid4()}"
            system.put_file(str(path), beside)
            system.mv(beside, place)
        return Carried(digest, None)

    def get(self, carried: Carried, path: Path) -> None:
        """Write a file to where it belongs on this machine.

        Raises:
            UserError: it is damaged.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if carried.content is not None:
            path.write_bytes(carried.content)
            return
        system, place = fsspec.url_to_fs(self._place(carried.digest))
        system.get_file(place, str(path))
        if digests.digest(path) != carried.digest:
            raise UserError(
                f"{self._place(carried.digest)} is damaged: it is not what was written; remove it "
                "and `dvc repro` again"
            )

    def _place(self, digest: str) -> str:
        return f"{self.url}/{digest[:2]}/{digest}"


class RayEngine:
    """Makes shards on the cluster that this process is connected to.

    Args:
        settings: `ray` in params.yaml.
    """

    def __init__(self, settings: Ray) -> None:
        import ray

        self._storage = Storage(settings.storage)
        self._storage.require()
        resources = ray.cluster_resources()
        gpus = 1 if resources.get("GPU") else 0
        on = ray.remote(num_cpus=settings.cpus, num_gpus=gpus, max_retries=RETRIES)
        self._work: Any = on(work)
        slots = resources.get("GPU") or resources.get("CPU", 1) / settings.cpus
        self.ahead = QUEUED * max(1, int(slots))
        self._shared = cache(lambda path: ray.put(self._storage.put(path)))

    def start(self, task: ShardTask[AnyPart], folder: Path, tick: Tick) -> Callable[[], AnyPart]:
        """Begin a task; see `engine.Engine`."""
        import ray

        reads = {path: self._storage.put(path) for path in task.reads}
        shares = {path: self._shared(path) for path in task.shares}
        with to_another_machine():
            result = self._work.remote(
                task.make, self._storage, packages.versions(), reads, list(shares), *shares.values()
            )

        def finish() -> AnyPart:
            try:
                part, files = ray.get(result)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, UserError) else error) from None
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                raise UserError(
                    f"the shard {task.name} crashed {RETRIES + 1} workers of the Ray cluster; see "
                    f"its logs ({str(error).splitlines()[0]})"
                ) from None
            for name, carried in files.items():
                self._storage.get(carried, folder / name)
            tick(task.pictures)
            return part

        return finish


def work(
    make: Callable[[Path, Tick], AnyPart],
    storage: Storage,
    versions: packages.Versions,
    reads: Mapping[Path, Carried],
    shared_paths: list[Path],
    *shared: Carried,
) -> tuple[AnyPart, dict[str, Carried]]:
    """Make a shard on a worker, in a folder of its own that looks like the project's.

    Returns:
        What describes the part, and its files.

    Raises:
        UserError: the worker has other packages than the driver.
    """
    if packages.versions() != versions:
        raise UserError(
            f"{os.uname().nodename}, a machine of the Ray cluster, has {packages.versions()}, this "
            f"one {versions}; install the same constraints.txt on both"
        )
    with tempfile.TemporaryDirectory(prefix="shard-") as folder, chdir(folder):
        for path, carried in {**dict(zip(shared_paths, shared, strict=True)), **reads}.items():
            storage.get(carried, path)
        made = Path("made")
        made.mkdir()
        part = make(made, lambda pictures: None)
        return part, {name: storage.put(made / name) for name in part.files}


def require_listener(address: str) -> None:
    """Fail where nothing listens; Ray itself would try for minutes.

    Raises:
        ConnectionError: says why there is no connection.
    """
    host, separator, port = address.rpartition(":")
    if separator:
        try:
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except OSError as error:
            raise ConnectionError(str(error)) from None


@contextmanager
def running(settings: Ray) -> Iterator[RayEngine]:
    """Connect to a Ray cluster, or start one on this machine.

    Raises:
        UserError: Ray is not installed, no cluster answers, or the storage does not.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "params.yaml: engine is ray, which is not installed; "
            "`pip install -c constraints.txt -r extras/ray.txt` installs it"
        ) from None
    cores = str(settings.cpus)
    try:
        require_listener(settings.address or "")
        ray.init(
            address=settings.address or "local",
            runtime_env={
                "py_modules": [str(Path(stages.__file__).parent)],
                "env_vars": {name: v for name, v in os.environ.items() if DECIDING.match(name)}
                | {THREADS: cores, "OMP_NUM_THREADS": cores, "TF_NUM_INTRAOP_THREADS": cores},
            },
            include_dashboard=False if settings.address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise UserError(
            f"params.yaml: ray.address is {settings.address!r}, where no Ray cluster answers "
            f"({str(error).splitlines()[0]}); `ray start --head` starts one; for a cluster that "
            "requires a token, set RAY_AUTH_MODE=token here too"
        ) from None
    try:
        yield RayEngine(settings)
    finally:
        ray.shutdown()
