"""`make benchmark`, as small as it gets, and the backends that it can compare."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import CAMPAIGN, ROOT

# Sizes of the data set, in parts of 16 pictures.
GROWTH = (1, 2) if CAMPAIGN else (1,)
TINY = ("--image-size=64", "--width=0.0625")
# Runs a module, whose processes are then of the Python that is named first.
NAMED = "import runpy, sys; sys.executable = sys.argv.pop(1); "
NAMED += "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


# Compiling takes longer than what is compiled.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


def python(*arguments: str, **environment: str) -> str:
    """What a module of the project prints; a campaign measures processes as they are for a user."""
    forked, _ = warm.programs()
    named = sys.executable if CAMPAIGN else str(forked)
    done = subprocess.run(
        [sys.executable, "-c", NAMED, named, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.campaign
def test_it_measures_every_part_and_writes_both_tables(tmp_path: Path):
    growth = ("--growth", *map(str, GROWTH))
    sizes = ("--pictures=16", *growth, "--recomputed=8", "--epochs=1")
    printed = python("benchmarks.run", *TINY, *sizes, f"--out={tmp_path}")
    results = json.loads((tmp_path / "results.json").read_text())
    assert printed.strip() == (tmp_path / "results.md").read_text().strip()

    assert [run["pictures"] for run in results["growth"]] == [16 * n // GROWTH[-1] for n in GROWTH]
    for run in results["growth"]:
        assert list(run["seconds"])[-3:] == ["train@fcn32s", "train@fcn16s", "train@fcn8s"]
        assert min(run["seconds"].values()) > 0
        # Of what asks for a process to be forked, little.
        assert min(run["peak_bytes"].values()) > (3e7 if CAMPAIGN else 1e6)
    assert set(results["recomputed"]["seconds_an_epoch"]) == {"fcn32s", "fcn16s", "fcn8s"}
    # Of a record, 4 bytes a pixel are pixels and labels; the rest is its name and framing.
    records = results["bytes"]["records"] / results["bytes"]["pictures"]
    assert 64 * 64 * 4 < records < 64 * 64 * 4 + 200
    # Multiply-adds of a VGG19 of a sixteenth of the channels on 64 x 64 pictures.
    assert results["rates"]["gflop_a_picture"] == pytest.approx(0.0180, rel=0.1)
    assert results["repro"]["unchanged"] < results["repro"]["one key"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_heads_train_under_another_backend_as_under_tensorflow(backend: str):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    sizes = ("--pictures=4", "--batch-size=2", "--epochs=6", "--precision=float32", "--pixels=1")
    # Those of the mlp begin with weights that each backend draws for itself.
    sizes += ("--heads", "fcn32s", "fcn16s", "fcn8s")
    expected, found = (
        json.loads(python("benchmarks.rates", *TINY, *sizes, KERAS_BACKEND=name, **QUICK))
        for name in ("tensorflow", backend)
    )
    assert found["backend"] == backend
    for name, head in expected["heads"].items():
        for key in ("first_loss", "last_loss"):
            assert found["heads"][name][key] == pytest.approx(head[key], abs=2e-3)
        assert head["last_loss"] < head["first_loss"]


def test_features_and_training_need_no_tensorflow_under_another_backend():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    program = "import sys, benchmarks.rates; sys.exit('tensorflow' in sys.modules)"
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
