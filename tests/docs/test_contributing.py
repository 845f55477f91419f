"""CONTRIBUTING.md: each worked example, applied to a copy of the project and run."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from stages.prepare.sources import demo
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from tests.conftest import ROOT, Project, stages_run, tiny_params

PATCH = re.compile(r"^## Add (.+?)\n.*?^```diff\n(.+?)^```$", re.MULTILINE | re.DOTALL)
PATCHES = dict(PATCH.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
MOST_FILES = 2


def apply(example: str, project: Project) -> None:
    """Change the project as an example says."""
    patch = project.folder / "example.patch"
    patch.write_text(PATCHES[example], encoding="utf-8")
    project.run("git", "apply", "--check", patch.name)
    project.run("git", "apply", patch.name)
    patch.unlink()


@pytest.mark.parametrize("example", PATCHES)
def test_an_example_touches_two_files_at_most(example: str):
    assert 1 <= len(re.findall(r"^\+\+\+ b/", PATCHES[example], re.MULTILINE)) <= MOST_FILES


def test_there_is_an_example_of_each_kind():
    assert list(PATCHES) == ["a variant", "a backbone", "a data source", "a metric"]


def test_a_variant_is_trained_measured_and_compared_and_nothing_else_runs(project: Project):
    params = project.folder / "params.yaml"
    params.write_bytes((ROOT / "profiles/demo.yaml").read_bytes())
    apply("a variant", project)
    params.write_text(yaml.safe_dump(tiny_params(params), sort_keys=False))
    ran = project.repro()
    assert ran == ["check", "train@fcn8s-direct", "evaluate@fcn8s-direct", "compare"]
    shown = project.run("dvc", "metrics", "show", "--json").stdout
    assert "reports/fcn8s-direct/metrics.json" in json.loads(shown)[""]["data"]
    with (project.folder / "reports/comparison/iou.csv").open() as file:
        assert Counter(row["variant"] for row in csv.DictReader(file))["fcn8s-direct"] == 5


def test_features_are_made_with_a_new_backbone(project: Project):
    apply("a backbone", project)
    entry = {"network": "mobilenet", "weights": "random"}
    project.set_params({"backbones.mobile": entry})
    ran = stages_run(project.run("dvc", "repro", "features@mobile").stdout)
    assert ran[-2:] == ["backbone@mobile", "features@mobile"]
    published = keras.applications.MobileNet(include_top=False, weights=None)
    features = json.loads(
        (project.folder / "data/features/mobile/network/features.json").read_text()
    )
    channels = {tap: found["shape"][-1] for tap, found in features["taps"].items()}
    last = {"stride8": 5, "stride16": 11, "stride32": 13}
    assert channels == {
        tap: published.get_layer(f"conv_pw_{number}_relu").output.shape[-1]
        for tap, number in last.items()
    }
    backbone = json.loads((project.folder / "models/mobile/backbone.json").read_text())
    assert backbone["network"] == "mobilenet"
    assert features["backbone_weights"] == backbone["weights"]


def write_arrays(folder: Path, pictures: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn pictures and masks in NumPy's files, as the example has them."""
    drawn = [demo.draw((64, 64), (9, part, index)) for index in range(pictures)]
    images, masks = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    return images, masks


def test_a_new_source_s_pictures_become_records(project: Project):
    apply("a data source", project)
    root = project.folder / "data/arrays"
    written = {
        split: write_arrays(root / split, count, part)
        for part, (split, count) in enumerate({"train": 5, "validation": 2, "test": 3}.items())
    }
    common = {key: project.params["dataset"][key] for key in ("image_size", "fit", "shard_size")}
    own = {
        "source": "arrays",
        "root": "data/arrays",
        "bad_pictures": "stop",
        "splits": {split: split for split in written},
        "classes": dict(enumerate(demo.CLASSES)),
    }
    project.set_params({"dataset": common | own})
    ran = stages_run(project.run("dvc", "repro", "prepare").stdout)
    assert ran == ["check", "prepare"]
    dataset = Dataset.read(project.folder / "data/dataset.json")
    assert dataset.source["source"] == "arrays"
    for split, (images, masks) in written.items():
        reader = PictureReader(dataset, split, project.folder / "data/records")
        found = reader.take(np.arange(len(images)))
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], masks)

    (root / "test/masks.npy").unlink()
    failed = project.stage("prepare", check=False)
    assert "dataset.splits.test: [Errno 2] No such file" in failed.stderr
    assert "Traceback" not in failed.stderr
    project.set_params({"dataset.source": "array"})
    refused = project.stage("check", check=False)
    assert (
        "dataset.source is 'array'; it should be annotations, arrays, demo, folder or tfds"
        in refused.stderr
    )


def test_a_new_metric_is_measured_and_nothing_is_trained(project: Project):
    apply("a metric", project)
    ran = stages_run(project.run("dvc", "repro", "evaluate@fcn8s").stdout)
    assert ran == ["evaluate@fcn8s"]
    with (project.folder / "reports/fcn8s/confusion.csv").open() as file:
        pixels = {(r["truth"], r["predicted"]): int(r["pixels"]) for r in csv.DictReader(file)}
    truth, predicted = Counter[str](), Counter[str]()
    for (true_class, predicted_class), count in pixels.items():
        truth[true_class] += count
        predicted[predicted_class] += count
    dice = [2 * pixels[c, c] / n for c in truth if (n := truth[c] + predicted[c])]
    metrics = json.loads((project.folder / "reports/fcn8s/metrics.json").read_text())
    assert metrics["mean_dice"] == pytest.approx(sum(dice) / len(dice), abs=1e-5)
    assert "mean_dice" in project.run("dvc", "metrics", "show").stdout
