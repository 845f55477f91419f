"""Training and evaluation on stored activations of the tiny project."""

import csv
import json
import math
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from stages import evaluate, train
from stages.shared import activations, fcn, records, scores, vgg
from stages.shared.activations import Features, SplitReader
from stages.shared.dataset import Dataset
from stages.shared.measures import MeanIoU

from .conftest import Project


@pytest.fixture
def in_project(built_project: Project, tmp_path: Path, monkeypatch) -> Project:
    """A copy of the built tiny project, as the current folder."""
    shutil.copytree(
        built_project.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", "cache")
    )
    for path in (tmp_path / "copy").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    monkeypatch.chdir(tmp_path / "copy")
    return Project(tmp_path / "copy")


def history(name: str) -> list[dict[str, float]]:
    return evaluate.read_history(name)


def test_a_variant_from_stored_activations_and_the_whole_network_agree(in_project: Project):
    dataset, features = Dataset.load(), Features.load()
    reader = SplitReader(features, "test", list(features.taps))
    taps, masks = reader.take(np.arange(len(reader)))
    batch = next(records.batches(records.RECORDS_DIR / "test-00000.tfrecord", (64, 64), 100))
    np.testing.assert_array_equal(masks, batch.masks)
    for name in in_project.params["variants"]:
        head = fcn.load_head(train.MODELS_DIR / name, features.image_size)
        network = fcn.network(vgg.load(), fcn.load_head(train.MODELS_DIR / name))
        stored = head.predict_on_batch({tap: taps[tap] for tap in head.input})
        whole = network.predict_on_batch(batch.images)
        spread = np.abs(whole).max()
        np.testing.assert_allclose(stored, whole, atol=5e-3 * spread)
        assert (stored.argmax(-1) == whole.argmax(-1)).mean() > 0.999
    assert dataset.classes == features.classes


def test_the_report_holds_the_measures_of_the_predictions(in_project: Project):
    features = Features.load()
    for name in in_project.params["variants"]:
        metrics = json.loads(Path(f"reports/{name}/metrics.json").read_text())
        head = fcn.load_head(train.MODELS_DIR / name, features.image_size)
        reader = SplitReader(features, "test", list(head.input))
        taps, masks = reader.take(np.arange(len(reader)))
        logits = head.predict_on_batch(taps).astype(np.float64)
        result = scores.score(scores.confusion(masks, logits.argmax(-1), len(features.classes)))
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        loss = -np.log(np.take_along_axis(chances, masks[..., None].astype(int), -1)).mean()
        assert metrics["loss"] == pytest.approx(loss, abs=2e-5)
        for key in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
            assert metrics[key] == pytest.approx(getattr(result, key), abs=1e-5)
        assert list(metrics["iou"]) == features.classes


def test_the_history_starts_at_epoch_0_with_what_the_parent_knows(in_project: Project):
    for name, variant in in_project.params["variants"].items():
        rows = history(name)
        assert [row["epoch"] for row in rows] == [0, 1, 2]
        assert tuple(rows[0]) == train.COLUMNS
        if variant["parent"] == "backbone":
            assert rows[0]["val_loss"] == pytest.approx(math.log(5), abs=1e-5)


def test_the_weights_of_the_best_epoch_are_kept(in_project: Project):
    features = Features.load()
    for name in in_project.params["variants"]:
        head = fcn.load_head(train.MODELS_DIR / name, features.image_size)
        reader = SplitReader(features, "validation", list(head.input))
        taps, masks = reader.take(np.arange(len(reader)))
        predicted = head.predict_on_batch(taps).argmax(-1)
        kept = scores.score(scores.confusion(masks, predicted, len(features.classes))).mean_iou
        assert kept == pytest.approx(max(row["val_mean_iou"] for row in history(name)), abs=2e-3)


@pytest.mark.parametrize("start_is_best", [True, False])
def test_the_start_counts_as_epoch_0(start_is_best: bool, in_project: Project):
    """Where no epoch beats the start, its weights are kept."""
    features = Features.load()
    head = fcn.load_head(train.MODELS_DIR / "fcn32s", features.image_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head.compile("sgd", loss, metrics=[MeanIoU(len(features.classes))])
    batches = train.Batches(SplitReader(features, "train", ["fc7"]), 2)
    before = head.get_weights()
    best = train.BestWeights({"val_mean_iou": 1.0 if start_is_best else -1.0})
    head.fit(batches, validation_data=batches, verbose=0, callbacks=[best])
    kept = all(np.array_equal(a, b) for a, b in zip(head.get_weights(), before, strict=True))
    assert kept == start_is_best


def test_a_loss_that_is_not_finite_fails_the_stage_and_names_the_way_out(in_project: Project):
    before = Path("models/fcn32s/head.weights.h5").read_bytes()
    in_project.set_params({"train.learning_rate": 1e38})
    done = in_project.stage("train", "fcn32s", check=False)
    assert done.returncode == 1
    assert "error: the loss of fcn32s is no longer finite" in done.stderr
    assert "lower variants.fcn32s.learning_rate or train.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("models/fcn32s/head.weights.h5").read_bytes() == before


def test_batches_come_in_a_new_order_each_epoch_fixed_by_the_seed(in_project: Project):
    reader = SplitReader(Features.load(), "train", ["fc7"])
    orders = []
    for seed in (1, 1, 2):
        batches = train.Batches(reader, 4, seed)
        first = batches.order.copy()
        batches.on_epoch_end()
        orders.append((first.tolist(), batches.order.tolist()))
        assert sorted(first) == list(range(6))
        assert [len(batches[i][1]) for i in range(len(batches))] == [4, 2]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_the_statistics_are_those_of_the_training_split(in_project: Project):
    features = Features.load()
    for name, tap in features.taps.items():
        reader = SplitReader(features, "train", [name])
        values = reader.take(np.arange(len(reader)))[0][name].reshape(-1, len(tap.mean))
        np.testing.assert_allclose(tap.mean, values.mean(0), rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(tap.deviation, values.std(0), rtol=2e-3, atol=1e-3)


def test_stored_activations_keep_float16_s_precision_at_any_scale(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(activations, "FEATURES_DIR", tmp_path)
    for scale in (1e-6, 1.0, 1e6):
        values = np.random.default_rng(0).gamma(1, scale, (3, 2, 2, 5)).astype(np.float32)
        unit = activations.unit(float(values.max()))
        assert math.log2(unit).is_integer()
        writer = activations.ShardWriter("test", 0, 3)
        for part in (slice(0, 2), slice(2, 3)):
            writer.append({"fc7": values[part]}, {"fc7": unit}, np.ones((3, 4, 4), np.uint8)[part])
        writer.close()
        tap = activations.Tap(unit=unit, mean=[0] * 5, deviation=[1] * 5)
        features = Features(
            precision="float32",
            image_size=(4, 4),
            classes=["a", "b"],
            taps={"fc7": tap},
            shards={"test": [3]},
        )
        read, _ = SplitReader(features, "test", ["fc7"]).take(np.array([2, 0]))
        np.testing.assert_allclose(read["fc7"], values[[2, 0]], rtol=1e-3, atol=scale * 1e-4)


def test_pictures_are_found_across_shards(in_project: Project):
    features = Features.load()
    assert features.shards["train"] == [4, 2]
    reader = SplitReader(features, "train", ["pool3"])
    parts = [np.load(activations.shard_file("train", n, "mask")) for n in (0, 1)]
    np.testing.assert_array_equal(
        reader.take(np.array([1, 3, 4, 5]))[1], np.concatenate(parts)[[1, 3, 4, 5]]
    )


def test_the_confusion_matrix_is_written_as_counts_and_shares(in_project: Project):
    with Path("reports/fcn8s/confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = Features.load().classes
    assert [(r["truth"], r["predicted"]) for r in rows] == [
        (t, p) for t in classes for p in classes
    ]
    assert sum(int(row["pixels"]) for row in rows) == 3 * 64 * 64
    shares = [sum(float(r["share"]) for r in rows if r["truth"] == t) for t in classes]
    assert all(share == pytest.approx(1, abs=1e-4) or share == 0 for share in shares)
