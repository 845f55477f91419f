"""The stages on Keras's JAX backend where TensorFlow is not installed."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Project

pytest.importorskip("jax")

# None stands for "not installed".
PROGRAM = """
import sys
from importlib import import_module
sys.modules["tensorflow"] = None
from stages.shared.networks import backend
backend.configure()
for line in sys.argv[1:]:
    stage, *name = line.split()
    getattr(import_module(f"stages.{stage}.stage"), stage)(*name)
"""
VARIANT = {"backbone": "vgg19", "stride": 8, "epochs": 2}
VARIANTS = {
    "fcn8s": VARIANT | {"train": "head", "parent": "vgg19"},
    "tuned": VARIANT | {"train": "network", "parent": "fcn8s"},
}


def test_from_params_yaml_to_the_comparison(project: Project):
    names = [path.name for path in (project.folder / "data/features/vgg19/head").glob("*.npy")]
    before = {name: activations(project, name) for name in names if "stride" in name}
    # The random weights of a backend are its own.
    for folder in ("data/records", "data/features", "models/fcn8s", "data/evaluation"):
        shutil.rmtree(project.folder / folder)
    project.set_params({"variants": VARIANTS, "export.variants": []})

    lines = ["check", "prepare", "features vgg19"]
    lines += [f"{stage} {name}" for name in VARIANTS for stage in ("train", "evaluate")]
    run = (sys.executable, "-c", PROGRAM, *lines, "compare")
    project.run(*run, KERAS_BACKEND="jax", PYTHONPATH=os.fspath(project.folder))

    for name, expected in before.items():
        # A step apart, where a value lies between two; scales are floats.
        found = activations(project, name)
        tolerance = {"atol": 1} if expected.dtype == np.uint8 else {"rtol": 1e-3, "atol": 1e-5}
        np.testing.assert_allclose(found.astype(float), expected.astype(float), **tolerance)
    for name in VARIANTS:
        metrics = json.loads((project.folder / f"reports/{name}/metrics.json").read_text())
        assert 0 < metrics["mean_iou"] < 1
    assert (project.folder / "reports/comparison/learning_curves.png").exists()


def activations(project: Project, name: str) -> np.ndarray:
    """A stored array of features."""
    return np.load(Path(project.folder, "data/features/vgg19/head", name))
