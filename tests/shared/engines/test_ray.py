"""Engine `ray`: a real cluster of two nodes on this machine makes the bytes that one makes."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from stages.check.schema import read_all
from stages.shared.engines.ray import Storage
from stages.shared.engines.settings import Ray
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError
from tests.conftest import Project, copy_project, free_port

pytest.importorskip("ray")

START_LIMIT = 120
OUTS = ("data/records", "data/dataset.json", "data/features/vgg19", "reports/dataset")
LABELS = {0: "left", 1: "right"}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Node(NamedTuple):
    """A machine of the cluster, as far as Ray can tell."""

    process: subprocess.Popen

    def busy_workers(self) -> list[psutil.Process]:
        """Its processes that are at a task now; Ray writes the task into their title."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if title(child).startswith("ray::work")]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Cluster(NamedTuple):
    address: str
    nodes: list[Node]


def start_node(*options: str, **environment: str) -> subprocess.Popen:
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", "--block", "--num-cpus=1", "--object-store-memory=200000000", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        command, env=os.environ | TOKEN | environment, start_new_session=True, **quiet
    )


@pytest.fixture(scope="module")
def cluster(s3_address: str) -> Iterator[Cluster]:
    """Two nodes of a core each, which ask for a token and find S3 at the server of this machine."""
    # Ray's sockets lie in this folder, and their paths must be short.
    folder, port = tempfile.mkdtemp(prefix="ray"), free_port()
    address = f"127.0.0.1:{port}"
    s3 = s3_environment(s3_address)
    head = start_node("--head", f"--port={port}", f"--temp-dir={folder}", **s3)
    nodes = [head]
    try:
        wait_for_nodes(address, head, 1)
        nodes.append(start_node(f"--address={address}", **s3))
        wait_for_nodes(address, head, 2)
        yield Cluster(address, [Node(process) for process in nodes])
    finally:
        for process in reversed(nodes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_nodes(address: str, head: subprocess.Popen, count: int) -> None:
    """Return once the cluster has so many nodes."""
    count_nodes = (
        "import ray, sys; ray.init(sys.argv[1], logging_level=50, log_to_driver=False); "
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and head.poll() is None:
        command = [sys.executable, "-c", count_nodes, address]
        done = subprocess.run(
            command, env=os.environ | TOKEN, capture_output=True, text=True, check=False
        )
        if done.stdout.strip() == str(count):
            return
    raise AssertionError("the cluster did not start")


def s3_environment(address: str) -> dict[str, str]:
    """What tells any AWS program where S3 is, and with which keys."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def on_ray(cluster: Cluster, tmp_path: Path, monkeypatch) -> Project:
    """A tiny project with a backbone, whose shards are made on the cluster."""
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    project = copy_project(tmp_path / "project")
    project.set_params({"engine": "ray", "ray.address": cluster.address})
    project.stage("check")
    project.stage("backbone", "vgg19")
    return project


def outs(project: Project) -> dict[str, str]:
    return project.digests(*OUTS)


def test_two_nodes_make_the_bytes_of_one_machine_though_a_worker_is_killed(
    on_ray: Project, built_project: Project, cluster: Cluster
):
    on_ray.stage("prepare")
    with on_ray.start("python", "-m", "stages.features", "vgg19") as process:
        struck = kill_a_worker(cluster.nodes[1], process)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert not struck.is_running()
    assert outs(on_ray) == outs(built_project)


def kill_a_worker(node: Node, stage: subprocess.Popen) -> psutil.Process:
    """Kill the first worker of the node that is at a task."""
    while stage.poll() is None:
        for worker in node.busy_workers():
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            return worker
    raise AssertionError("the stage ended before the node had a task: " + stage.stderr.read())


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_shards_pass_through_shared_storage_under_their_digest(
    kind: str, on_ray: Project, built_project: Project, s3_address: str, tmp_path: Path, monkeypatch
):
    if kind == "s3":
        pytest.importorskip("s3fs")
    url = {"file": f"file://{tmp_path}/shared", "s3": f"s3://{tmp_path.name.lower()}/shards"}[kind]
    for name, value in s3_environment(s3_address).items():
        monkeypatch.setenv(name, value)
    system, folder = fsspec.url_to_fs(url)
    if kind == "s3":
        system.mkdir(folder.partition("/")[0])
    on_ray.set_params({"ray.storage": url})

    on_ray.stage("prepare")
    on_ray.stage("features", "vgg19")
    assert outs(on_ray) == outs(built_project)
    stored = {Path(path).name: system.cat_file(path) for path in system.find(folder)}
    made = [
        *on_ray.folder.glob("data/records/*"),
        *on_ray.folder.glob("data/features/vgg19/head/*.npy"),
    ]
    backbone = [*on_ray.folder.glob("models/vgg19/backbone.*")]
    assert stored == {digests.digest(path): path.read_bytes() for path in [*made, *backbone]}


def test_a_users_mistake_on_a_worker_is_told_as_on_this_machine(on_ray: Project):
    pictures = on_ray.folder / "data/pictures"
    for number in range(6):
        save(pictures / f"images/{number}.png", np.zeros((40, 40, 3), np.uint8))
        save(pictures / f"masks/{number}.png", np.tile(np.eye(2, dtype=np.uint8)[0], (40, 20)))
    (pictures / "images/4.png").write_bytes(b"no picture")
    folder = {
        "source": "folder",
        "root": "data/pictures",
        "pictures": "images/*.png",
        "masks": "masks/*.png",
        "splits": {"by": "fraction", "train": 0.5, "validation": 0.2, "test": 0.3},
        "classes": LABELS,
        "image_size": 32,
        "shard_size": 2,
        "bad_pictures": "stop",
    }
    on_ray.set_params({"dataset": folder})
    done = on_ray.stage("prepare", check=False)
    assert done.returncode == 1
    assert "error: images/4.png (split" in done.stderr
    assert "Traceback" not in done.stderr
    (pictures / "images/4.png").unlink()
    (pictures / "masks/4.png").unlink()
    on_ray.stage("prepare")
    from_ray = outs(on_ray)
    on_ray.set_params({"engine": "local"})
    on_ray.stage("prepare")
    assert outs(on_ray) == from_ray


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_an_address_without_a_cluster_is_named(fresh_project: Project):
    address = f"127.0.0.1:{free_port()}"
    fresh_project.set_params({"engine": "ray", "ray.address": address})
    done = fresh_project.stage("prepare", check=False)
    assert done.returncode == 1
    assert f"error: params.yaml: ray.address is '{address}', where no Ray cluster" in done.stderr
    assert not (fresh_project.folder / "data/.partial").exists()


def test_a_damaged_file_in_shared_storage_is_named(tmp_path: Path):
    (tmp_path / "shard").write_bytes(b"records")
    storage = Storage(f"file://{tmp_path}/shared")
    carried = storage.put(tmp_path / "shard")
    (stored,) = (path for path in (tmp_path / "shared").rglob("*") if path.is_file())
    stored.write_bytes(b"recordz")
    with pytest.raises(UserError, match=f"{carried.digest} is damaged"):
        storage.get(carried, tmp_path / "again")


@pytest.mark.parametrize("url", ["nothing://folder", "file:///proc/no/folder"])
def test_a_storage_in_which_nothing_can_be_written_is_named(url: str):
    with pytest.raises(UserError, match=re.escape(f"ray.storage is {url!r}, where nothing can")):
        Storage(url).require()


def test_the_engine_needs_no_entry_in_params_yaml(in_project: Project):
    content = {k: v for k, v in in_project.params.items() if k not in ("engine", "ray")}
    path = in_project.folder / "without.yaml"
    path.write_text(yaml.safe_dump(content))
    whole = read_all(path)
    assert (whole.engine, whole.ray) == ("local", Ray())
