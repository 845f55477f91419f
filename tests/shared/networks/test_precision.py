"""Which dtype policy `precision: auto` takes."""

import os
from pathlib import Path

import pytest
import tensorflow as tf

from stages.shared.networks import devices, precision

CPUINFO = "processor\t: 0\nflags\t\t: fpu sse avx2 {}\n\nprocessor\t: 1\nflags\t\t: fpu\n"


@pytest.fixture
def on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(devices, "gpus", list)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_uses_it(flag: str, on_a_cpu, tmp_path: Path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(flag))
    flags = precision.cpu_flags(tmp_path / "cpuinfo")
    assert flags == {"fpu", "sse", "avx2", flag}
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    assert precision.policy("auto") == "mixed_bfloat16"
    assert precision.policy("auto", trains_depthwise=True) == "float32"


def test_another_cpu_computes_in_float32(on_a_cpu, tmp_path: Path, monkeypatch):
    assert precision.cpu_flags(tmp_path / "missing") == set()
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx2"})
    assert precision.policy("auto") == "float32"


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("echo 9.0", "mixed_bfloat16"),
        ("echo 8.0", "mixed_bfloat16"),
        ("echo 8.6; echo 7.5", "mixed_float16"),
        ("echo 7.0", "mixed_float16"),
        ("exit 9", "float32"),
    ],
)
def test_a_gpu_uses_bfloat16_from_compute_capability_8_on_and_float32_if_nobody_knows_it(
    answer: str, expected: str, tmp_path: Path, monkeypatch
):
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\n{answer}\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(devices, "gpus", lambda: ["gpu:0"])
    assert precision.policy("auto") == expected
    assert precision.policy("auto", trains_depthwise=True) == expected


@pytest.mark.parametrize("named", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_named_precision_is_taken_as_it_is(named: str):
    assert precision.policy(named) == named


def test_float32_is_not_shortened_by_a_gpu():
    tf.config.experimental.enable_tensor_float_32_execution(True)
    precision.policy("mixed_bfloat16")
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    precision.policy("float32")
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
