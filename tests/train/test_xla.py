"""XLA, as TensorFlow uses it on a GPU, on a CPU against the plain steps."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.evaluate import stage as evaluate
from stages.shared.networks import backend
from stages.shared.networks.compiled import Compiled
from stages.train import stage as train
from tests.conftest import Project

# Those of the built project were computed without XLA.
STAGES = ("features", "train", "evaluate")
PROGRAM = """
import sys
from importlib import import_module
from stages.shared.networks import backend
backend.configure()
for stage, name in (("features", "vgg19"), ("train", "fcn32s"), ("evaluate", "fcn32s")):
    getattr(import_module(f"stages.{stage}.stage"), stage)(name)
"""
OUTPUTS = ("data/features/vgg19", "reports/fcn32s", "data/evaluation/fcn32s")


def test_each_batch_has_the_size_of_most_from_the_first_on(monkeypatch):
    """Of two threads, that with the few pictures of a last shard may come first."""
    monkeypatch.setenv("XLA", "on")
    seen = []
    predict = Compiled(keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]), batch_size=3)
    inner, predict._predict = predict._predict, lambda x: seen.append(len(x)) or inner(x)
    for size in (1, 3, 2):
        np.testing.assert_array_equal(predict(np.ones((size, 2), "f")).arrays(), np.ones((size, 2)))
    assert seen == [3, 3, 3]


def test_stages_compiled_by_xla_give_what_the_plain_ones_do(in_project: Project, tmp_path: Path):
    # What is drawn by chance would be other numbers.
    in_project.set_params({"train.dropout": 0.0, "train.pixels": 1.0})
    train.train("fcn32s")
    evaluate.evaluate("fcn32s")
    for output in OUTPUTS:
        shutil.copytree(output, tmp_path / output)

    # XLA dumps what it compiles.
    dumped = tmp_path / "dumped"
    flags = f"--xla_dump_to={dumped} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | backend.ENVIRONMENT | {"XLA": "on", "XLA_FLAGS": flags},
    )
    assert done.returncode == 0, done.stderr
    assert "jit_compile" not in done.stderr
    modules = {path.name.split(".")[1] for path in dumped.glob("*.before_optimizations.txt")}
    assert any("one_step_on_data" in name for name in modules), modules
    assert any("predict" in name or "lambda" in name for name in modules), modules

    for path in Path("data/features/vgg19/head").glob("*.stride32.npy"):
        plain = np.load(tmp_path / path).astype(int)
        assert np.abs(np.load(path).astype(int) - plain).max() <= 1
    plain_rows, rows = (history(folder / "reports/fcn32s") for folder in (tmp_path, Path()))
    for plain_row, row in zip(plain_rows, rows, strict=True):
        assert row == pytest.approx(plain_row, abs=2e-3, nan_ok=True)


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv."""
    with (folder / "history.csv").open(newline="") as file:
        return [
            {key: float(value or "nan") for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
