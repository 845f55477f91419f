"""How much memory the device has, that splits may lie in."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stages.shared.networks import devices

# Of a container's memory, what each kind of page takes.
NO_FILES = {"memory.stat": "anon 1500\ninactive_file 0\nactive_file 0\n"}
CACHED = {"memory.stat": "anon 500\nfile 1200\ninactive_file 900\nactive_file 300\n"}


@pytest.mark.parametrize(("free", "expected"), [(128, 15), (20, 10)])
def test_of_several_gpus_the_least_free_counts_and_half_of_the_machine_s_memory(
    free: int, expected: int, tmp_path: Path, monkeypatch
):
    driver = tmp_path / "nvidia-smi"
    asked = "--query-gpu=memory.free --format=csv,noheader,nounits"
    driver.write_text(f'#!/bin/sh\n[ "$*" = "{asked}" ] && echo 81559 && echo 15360\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(devices, "gpus", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 2**30))
    found = devices.memory()
    assert (found.device, found.machine) == (expected * 2**30, free * 2**30)
    assert devices.memory(0.5).device == expected * 2**29


def test_a_container_s_limit_holds_with_a_gpu_too(tmp_path: Path, monkeypatch):
    for name, content in {"memory.max": "6000\n", "memory.current": "2000\n", **NO_FILES}.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(devices, "gpus", lambda: ["gpu:0"])
    monkeypatch.setattr(devices, "CONTAINER", tmp_path)
    # Without a driver of NVIDIA's, nobody says how much the GPU has.
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.memory() == (2000, 4000)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "5000\n", "memory.current": "2000\n", **NO_FILES}, 3000),
        ({"memory.max": "5000\n", "memory.current": "2000\n", **CACHED}, 4200),
        ({"memory.max": "1000\n", "memory.current": "2000\n", **NO_FILES}, 0),
        ({"memory.max": "max\n", "memory.current": "2000\n", **NO_FILES}, None),
        ({}, None),
    ],
    ids=["a limit", "files are cached", "beyond the limit", "no limit", "no container"],
)
def test_without_a_gpu_it_is_what_the_machine_or_the_container_has_free(
    files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch
):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(devices, "gpus", list)
    monkeypatch.setattr(devices, "CONTAINER", tmp_path)
    if expected is None:
        expected = pytest.approx(psutil.virtual_memory().available, rel=0.2)
    found = devices.memory()
    assert found.device == found.machine == expected
