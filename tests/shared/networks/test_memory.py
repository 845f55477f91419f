"""How much memory the device has, that splits may lie in."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stages.shared.networks import devices


@pytest.mark.parametrize(("free", "expected"), [(128, 15), (20, 10)])
def test_of_several_gpus_the_smallest_counts_and_half_of_the_machine_s_memory(
    free: int, expected: int, tmp_path: Path, monkeypatch
):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 81559; echo 15360\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(devices, "gpus", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 2**30))
    assert devices.memory() == expected * 2**30


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "5000\n", "memory.current": "2000\n"}, 3000),
        ({"memory.max": "1000\n", "memory.current": "2000\n"}, 0),
        ({"memory.max": "max\n", "memory.current": "2000\n"}, None),
        ({}, None),
    ],
    ids=["a limit", "beyond the limit", "no limit", "no container"],
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
    assert devices.memory() == expected
