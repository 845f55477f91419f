"""evaluate: what it says of a variant, whatever its training was like."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from commands.predict.segmenter import Segmenter, Views
from stages.compare import stage as compare
from stages.evaluate import stage as evaluate
from stages.shared.formats.predictions import Summary
from stages.shared.networks import heads
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.results import scores
from stages.shared.runtime.errors import UserError
from tests.conftest import Project


def confusion(name: str) -> list[list[str]]:
    return list(csv.reader(Path(f"reports/{name}/confusion.csv").open()))


def test_flips_and_scales_are_measured_as_prediction_sees_them(in_project: Project):
    in_project.set_params({"evaluate.flip": True, "evaluate.scales": [1.0, 1.5]})
    before = confusion("fcn8s")
    evaluate.evaluate("fcn8s")
    after = confusion("fcn8s")
    dataset = Dataset.load()
    reader = PictureReader(dataset, "test")
    pictures, masks = reader.take(np.arange(len(reader)))
    seen = Segmenter(["fcn8s"], Views(flip=True, scales=[1.0, 1.5]))
    counts = sum(
        scores.confusion(mask, seen(picture)["fcn8s"], len(dataset.classes))
        for picture, mask in zip(pictures, masks, strict=True)
    )
    assert [int(row[2]) for row in after[1:]] == counts.ravel().tolist()
    assert after != before


def test_the_metrics_tell_what_a_variant_takes_for_a_picture(in_project: Project):
    features = json.loads(Path("data/features/vgg19/head/features.json").read_text())
    for name, strides in {"fcn32s": [32], "fcn8s": [8, 16, 32], "fcn8s-finetuned": None}.items():
        evaluate.evaluate(name)
        metrics = json.loads(Path(f"reports/{name}/metrics.json").read_text())
        network = heads.load_network(Path("models", name))
        assert metrics["parameters"] == network.count_params()
        # The score layers add next to nothing.
        assert 1 <= 1e9 * metrics["gflop"] / features["flop"] < 1.05
        stored = None
        if strides:
            # One picture's rows of the files.
            files = [f"train-00000.stride{s}{part}.npy" for s in strides for part in ("", "_scale")]
            arrays = [np.load(f"data/features/vgg19/head/{file}") for file in files]
            stored = sum(array[0].nbytes for array in arrays)
        assert metrics["feature_bytes"] == stored


def test_a_validation_loss_that_is_not_finite_leaves_the_summary_readable(in_project: Project):
    path = Path("reports/fcn8s/history.csv")
    rows = list(csv.DictReader(path.open()))
    rows[1]["val_loss"], rows[2]["val_loss"] = "inf", "nan"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    evaluate.evaluate("fcn8s")
    losses = [row["val_loss"] for row in Summary.load("fcn8s").history]
    assert losses == [float(rows[0]["val_loss"]), None, None]
    assert json.loads(Path("data/evaluation/fcn8s/summary.json").read_text())
    compare.compare()
    lines = Path("reports/comparison/curves.csv").read_text().splitlines()
    curves = list(csv.DictReader(lines))
    assert [row["val_loss"] for row in curves if row["variant"] == "fcn8s"][1:] == ["", ""]


def test_a_history_with_the_marks_of_a_conflict_is_named(in_project: Project):
    path = Path("reports/fcn8s/history.csv")
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, "<<<<<<< HEAD\n", *rows]))
    message = r"reports/fcn8s/history\.csv is damaged: .*`dvc repro .* train@fcn8s`"
    with pytest.raises(UserError, match=message):
        evaluate.evaluate("fcn8s")
