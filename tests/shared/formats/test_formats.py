"""docs/formats.md: its examples, run as they stand on the tiny project, read what is there."""

import csv
import json
import re

import numpy as np
import pytest
import xxhash

from stages.shared.networks import backbones
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.runtime.digests import digest_of
from stages.shared.runtime.paths import MODELS_DIR
from tests.conftest import ROOT, Project

PAGE = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
RECORD, FEATURES = re.findall(r"^```python\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(example: str) -> dict:
    """Run an example; the names that it leaves."""
    names: dict = {}
    exec(compile(example, "docs/formats.md", "exec"), names)
    return names


def test_the_examples_use_nothing_of_this_project():
    assert "stages" not in RECORD + FEATURES


def test_a_record_is_read(in_project: Project):
    found = run(RECORD)
    images, masks = PictureReader(Dataset.load(), "train").take(np.array([0]))
    assert found["name"] == "train-00000"
    np.testing.assert_array_equal(found["image"], images[0])
    np.testing.assert_array_equal(found["mask"], masks[0])


def test_features_are_the_backbone_s_activations_to_half_a_step(in_project: Project):
    found = run(FEATURES)
    images, _ = PictureReader(Dataset.load(), "train").take(np.array([0]))
    expected = backbones.load(MODELS_DIR / "vgg19")(images)["stride32"].numpy()[0]
    assert expected.max() > 0
    error = np.abs(found["first"] - expected)
    assert (error <= found["scale"][0][1] * 0.501 + 1e-4 * expected.max()).all()


@pytest.mark.parametrize(
    "file, version, keys",
    [
        (
            "data/dataset.json",
            5,
            "source image_size fit tiling sizes classes pixels shards left_out",
        ),
        (
            "data/features/vgg19/head/features.json",
            7,
            "records backbone_weights precision image_size classes parameters flop taps shards",
        ),
        (
            "data/features/vgg19/network/features.json",
            7,
            "records backbone_weights precision image_size classes parameters flop taps shards",
        ),
        ("data/taps/vgg19.json", 1, "strides"),
        ("models/vgg19/backbone.json", 9, "network preset width strides origin weights"),
        (
            "models/fcn8s/head.json",
            7,
            "decoder width context stride channels classes image_size fit tiling cut_from greys "
            "backbone frozen backbone_weights weights",
        ),
        ("models/fcn8s/settings.json", 3, "train stride settings seed"),
        ("data/evaluation/fcn8s/summary.json", 5, "split records predictions cost iou history"),
    ],
)
def test_json_files_hold_the_keys_that_the_page_names(
    file: str, version: int, keys: str, in_project: Project
):
    content = json.loads((in_project.folder / file).read_text())
    assert list(content) == ["schema_version", *keys.split(), "digest"]
    assert content["schema_version"] == version
    for key in keys.split():
        assert f"`{key}`" in PAGE


def test_digests_are_what_xxhsum_prints(in_project: Project):
    # Of `printf abc | xxhsum -H2`.
    assert digest_of(b"abc") == "06b05ab6733a618578af5f94892f3950"
    for file, digests in {
        "models/vgg19/backbone.weights.h5": "models/vgg19/backbone.json",
        "models/fcn8s/head.weights.h5": "models/fcn8s/head.json",
    }.items():
        found = xxhash.xxh3_128_hexdigest((in_project.folder / file).read_bytes())
        assert json.loads((in_project.folder / digests).read_text())["weights"] == found


def test_tables_have_the_columns_that_the_page_names(in_project: Project):
    reports = in_project.folder / "reports"
    measures = ["loss", "mean_iou", "pixel_accuracy"]
    history = ["epoch", *measures, *(f"val_{measure}" for measure in measures)]
    columns = {
        "fcn8s/confusion.csv": ["truth", "predicted", "pixels", "share"],
        "fcn8s/history.csv": history,
        "comparison/curves.csv": ["variant", *history],
        "comparison/iou.csv": ["variant", "class", "iou"],
        "comparison/cost.csv": [
            "variant",
            "mean_iou",
            "parameters",
            "gflop",
            "feature_bytes",
            "passes",
        ],
    }
    for file, expected in columns.items():
        with (reports / file).open(newline="") as table:
            assert next(csv.reader(table)) == expected
    metrics = json.loads((reports / "fcn8s/metrics.json").read_text())
    assert all(f"`{key}`" in PAGE for key in metrics)
