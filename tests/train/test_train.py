"""Training and evaluation on stored activations of the tiny project."""

import csv
import json
import math
import re
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.evaluate import stage as evaluate
from stages.features import stage as features_stage
from stages.shared.formats.features import HEAD, FeatureReader, Features, folder_of
from stages.shared.networks import backbones, heads
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.results import scores
from stages.shared.runtime.paths import MODELS_DIR
from stages.train import fit, progress
from stages.train import stage as train
from stages.train.batches import Batches
from stages.train.fit import measured
from stages.train.metrics import MeanIoU, PixelAccuracy
from stages.train.supplied import Supplied
from tests.conftest import Project

VGG19 = MODELS_DIR / "vgg19"


def history(name: str) -> list[dict[str, float]]:
    return evaluate.read_history(name)


def head_names(project: Project) -> list[str]:
    return [name for name, v in project.params["variants"].items() if v["train"] == "head"]


def test_a_variant_from_stored_activations_and_the_whole_network_agree(in_project: Project):
    (shard,) = Dataset.load().shards["test"]
    batch = next(shards.batches(shard, (64, 64), 100))
    for name in head_names(in_project):
        model, reader = evaluate.model_and_reader(name, "test")
        inputs, masks = reader.take(np.arange(len(reader)))
        np.testing.assert_array_equal(masks, batch.masks)
        network = heads.network(backbones.load(VGG19), heads.load(MODELS_DIR / name))
        stored, whole = model.predict_on_batch(inputs), network.predict_on_batch(batch.images)
        np.testing.assert_allclose(stored, whole, atol=1e-2 * np.abs(whole).max())
        assert (stored.argmax(-1) == whole.argmax(-1)).mean() > 0.995


@pytest.mark.parametrize("name", ["fcn8s", "fcn8s-finetuned"])
def test_a_training_that_reads_from_the_disk_gives_the_bytes_of_a_resident_one(
    name: str, in_project: Project, monkeypatch
):
    """Of a head and of a network: with dropout, sampled pixels and augmentation."""
    outputs = (f"models/{name}", f"reports/{name}")
    resident, made = in_project.digests(*outputs), []
    monkeypatch.setattr(fit, "Resident", made.append)
    monkeypatch.setattr(fit, "held", made.append)
    in_project.set_params({"memory": 0.0})
    train.train(name)
    assert made == []
    assert in_project.digests(*outputs) == resident


def test_a_network_is_trained_on_rotated_crops_at_random_scales_the_same_way_again(
    in_project: Project,
):
    augmentation = {"crop": [32, 48], "rotation": 15.0, "scale": 0.5, "vertical_flip": True}
    in_project.set_params({"variants.fcn8s-finetuned.augmentation": augmentation})
    outputs = ("models/fcn8s-finetuned", "reports/fcn8s-finetuned")
    whole, made = in_project.digests(*outputs), []
    for _ in range(2):
        train.train("fcn8s-finetuned")
        made.append(in_project.digests(*outputs))
    assert made[0] == made[1] != whole
    start, first, *_ = history("fcn8s-finetuned")
    assert np.isfinite(first["loss"]) and first["val_loss"] != start["val_loss"]


def test_the_report_holds_the_measures_of_the_predictions(in_project: Project):
    classes = Features.load("vgg19", HEAD).classes
    for name in in_project.params["variants"]:
        metrics = json.loads(Path(f"reports/{name}/metrics.json").read_text())
        model, reader = evaluate.model_and_reader(name, "test")
        inputs, masks = reader.take(np.arange(len(reader)))
        logits = model.predict_on_batch(inputs).astype(np.float64)
        result = scores.score(scores.confusion(masks, logits.argmax(-1), len(classes)))
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        loss = -np.log(np.take_along_axis(chances, masks[..., None].astype(int), -1)).mean()
        assert metrics["loss"] == pytest.approx(loss, abs=2e-5)
        for key in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
            assert metrics[key] == pytest.approx(getattr(result, key), abs=1e-5)
        assert list(metrics["iou"]) == classes


def test_the_history_starts_at_epoch_0_with_what_the_parent_knows(in_project: Project):
    for name, variant in in_project.params["variants"].items():
        rows = history(name)
        epochs = variant.get("epochs", in_project.params["train"]["epochs"])
        assert [row["epoch"] for row in rows] == list(range(epochs + 1))
        assert tuple(rows[0]) == progress.COLUMNS
        if variant["parent"] == "vgg19":
            assert rows[0]["val_loss"] == pytest.approx(math.log(5), abs=1e-5)


def test_a_network_starts_from_its_parent_s_best_epoch(in_project: Project):
    best = max(history("fcn8s"), key=lambda row: row["val_mean_iou"])
    start = history("fcn8s-finetuned")[0]
    for key in ("val_loss", "val_mean_iou", "val_pixel_accuracy"):
        assert start[key] == pytest.approx(best[key], abs=1e-2)


def test_a_network_keeps_a_backbone_of_its_own_where_its_training_changed_it(in_project: Project):
    # A head's is the one that its features were computed with, without a copy.
    for name in (backbones.WEIGHTS_FILE, backbones.CONFIG_FILE):
        assert (VGG19 / name).read_bytes() == Path("models/fcn8s/backbone", name).read_bytes()
    in_project.set_params({"variants.fcn8s-finetuned.epochs": 3})
    in_project.stage("train", "fcn8s-finetuned")
    start, *epochs = (row["val_mean_iou"] for row in history("fcn8s-finetuned"))
    weights = zip(
        backbones.load(VGG19).get_weights(),
        backbones.load(Path("models/fcn8s-finetuned/backbone")).get_weights(),
        strict=True,
    )
    changed = any(not np.array_equal(shared, own) for shared, own in weights)
    assert changed == (max(epochs) > start)


def test_the_backbone_alone_learns_at_its_share_of_the_rate(in_project: Project):
    network = heads.load_network(Path("models/fcn8s"))
    backbone = network.get_layer("vgg19")
    shares = train.shares(network, backbone, 0.2)
    slow = {weight.path for weight in backbone.trainable_variables}
    assert 0 < len(slow) < len(shares)
    for weight, share in zip(network.trainable_variables, shares, strict=True):
        assert share == (0.2 if weight.path in slow else 1.0)


def test_the_weights_of_the_best_epoch_are_kept(in_project: Project):
    classes = Features.load("vgg19", HEAD).classes
    for name in in_project.params["variants"]:
        model, reader = evaluate.model_and_reader(name, "validation")
        inputs, masks = reader.take(np.arange(len(reader)))
        predicted = model.predict_on_batch(inputs).argmax(-1)
        kept = scores.score(scores.confusion(masks, predicted, len(classes))).mean_iou
        assert kept == pytest.approx(max(row["val_mean_iou"] for row in history(name)), abs=2e-3)


@pytest.mark.parametrize("start_is_best", [True, False])
def test_the_start_counts_as_epoch_0(start_is_best: bool, in_project: Project, tmp_path: Path):
    """Where no epoch beats the start, its weights are kept."""
    model, reader = evaluate.model_and_reader("fcn32s", "train")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    measures = [
        MeanIoU(len(Features.load("vgg19", HEAD).classes)),
        PixelAccuracy(len(Features.load("vgg19", HEAD).classes)),
    ]
    batches = Batches(reader, 2)
    before = model.get_weights()
    model = Supplied(model)
    model.compile("sgd", loss, metrics=measures)
    training_so_far = progress.Progress(tmp_path / "state.npz", epochs=1)
    training_so_far.set_model(model)
    zeros = dict.fromkeys(progress.COLUMNS[1:], 0.0)
    training_so_far.start(zeros | {"val_mean_iou": 1.0 if start_is_best else -1.0})
    model.fit(
        batches.stream(),
        steps_per_epoch=len(batches),
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda _, logs: logs.update(measured(model, batches))
            ),
            training_so_far,
        ],
    )
    kept = all(
        np.array_equal(a, b) for a, b in zip(model.network.get_weights(), before, strict=True)
    )
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


def test_a_loss_that_rises_is_told_with_the_way_out(in_project: Project):
    in_project.set_params({"train.learning_rate": 1e3})
    printed = in_project.stage("train", "fcn32s").stdout
    assert re.search(
        r"note: the loss of fcn32s rose from 1\.\d+ to .*; lower variants\.fcn32s\.learning_rate "
        r"or train\.learning_rate \(it was 1000\)",
        printed,
    )
    in_project.set_params({"train.learning_rate": 1e-2})
    assert "rose" not in in_project.stage("train", "fcn32s").stdout


def test_batches_come_in_a_new_order_each_epoch_fixed_by_the_seed(in_project: Project):
    reader = FeatureReader(
        folder_of("vgg19", HEAD), Features.load("vgg19", HEAD), "train", ["stride32"]
    )
    orders = []
    for seed in (1, 1, 2):
        batches = Batches(reader, 4, seed)
        first, second = (batches.epoch(number) for number in (1, 2))
        orders.append(([list(part) for part in first], [list(part) for part in second]))
        assert sorted(np.concatenate(first)) == list(range(6))
        read = [batch["masks"] for (batch,) in islice(batches.stream(), 4)]
        for masks, chosen in zip(read, (*first, *second), strict=True):
            np.testing.assert_array_equal(masks, reader.take(chosen)[1])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_the_statistics_are_those_of_the_training_split(in_project: Project):
    features = Features.load("vgg19", HEAD)
    for name, tap in features.taps.items():
        reader = FeatureReader(folder_of("vgg19", HEAD), features, "train", [name])
        inputs, _ = reader.take(np.arange(len(reader)))
        lowest, step = np.moveaxis(inputs[f"{name}_scale"][:, :, None, None], 1, 0)
        values = lowest + inputs[name] * step
        spread = np.max(tap.deviation)
        np.testing.assert_allclose(tap.mean, values.mean((0, 1, 2)), atol=5e-3 * spread)
        np.testing.assert_allclose(tap.deviation, values.std((0, 1, 2)), atol=5e-3 * spread)


def test_the_confusion_matrix_is_written_as_counts_and_shares(in_project: Project):
    with Path("reports/fcn8s/confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = Features.load("vgg19", HEAD).classes
    assert [(r["truth"], r["predicted"]) for r in rows] == [
        (t, p) for t in classes for p in classes
    ]
    assert sum(int(row["pixels"]) for row in rows) == 3 * 64 * 64
    shares = [sum(float(r["share"]) for r in rows if r["truth"] == t) for t in classes]
    assert all(share == pytest.approx(1, abs=1e-4) or share == 0 for share in shares)


def test_flipped_features_are_those_of_the_flipped_pictures(in_project: Project):
    in_project.set_params({"features.flip": True})
    features_stage.features("vgg19")
    features, tap = Features.load("vgg19", HEAD), "stride8"
    reader = FeatureReader(folder_of("vgg19", HEAD), features, "train", [tap], flipped=True)
    assert len(reader) == 12
    inputs, masks = reader.take(np.array([2, 8]))
    np.testing.assert_array_equal(masks[1], masks[0][:, ::-1])
    images, _ = PictureReader(Dataset.load(), "train").take(np.array([2]))
    expected = backbones.load(VGG19)(images[:, :, ::-1])[tap].numpy()[0]
    lowest, step = inputs[f"{tap}_scale"][1]
    error = np.abs(lowest + inputs[tap][1] * step - expected)
    assert (error <= 0.501 * step + 1e-4 * np.ptp(expected)).all()

    before = history("fcn32s")
    train.train("fcn32s")
    assert history("fcn32s")[0] == before[0]
    assert history("fcn32s")[1:] != before[1:]


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_no_scale_of_the_activations_keeps_a_variant_from_learning(
    scale: float, in_project: Project
):
    """The last layer of each block is scaled, and with it the taps; what is trained is the same."""
    expected = {name: history(name) for name in head_names(in_project)}
    backbone = backbones.load(VGG19)
    for tap, layer in (
        ("stride8", "block3_conv4"),
        ("stride16", "block4_conv4"),
        ("stride32", "fc7"),
    ):
        scaled = backbone.get_layer(layer)
        scaled.set_weights([w * scale for w in scaled.get_weights()])
        behind = {"stride8": "block4_conv1", "stride16": "block5_conv1"}.get(tap)
        if behind:
            kernel, bias = backbone.get_layer(behind).get_weights()
            backbone.get_layer(behind).set_weights([kernel / scale, bias])
    backbones.save(backbone, backbones.load_config(VGG19), VGG19)
    features_stage.features("vgg19")
    for name in head_names(in_project):
        train.train(name)
        for row, expected_row in zip(history(name), expected[name], strict=True):
            assert row["val_loss"] == pytest.approx(expected_row["val_loss"], rel=0.02)
    assert history("fcn32s")[-1]["loss"] < history("fcn32s")[0]["val_loss"]


@pytest.mark.parametrize("name", ["fcn8s", "fcn8s-finetuned"])
def test_an_interrupted_training_ends_on_the_bytes_of_an_undisturbed_one(
    name: str, in_project: Project, monkeypatch, capsys
):
    """With dropout, augmentation, averages, a schedule and patience, after two of four epochs."""
    in_project.set_params(
        {
            f"variants.{name}.ema_momentum": 0.9,
            f"variants.{name}.epochs": 4,
            f"variants.{name}.schedule": "cosine",
            f"variants.{name}.patience": 3,
        }
    )
    outs = (f"models/{name}", *map(str, train.reports(name)))
    train.train(name)
    undisturbed, epochs = in_project.digests(*outs), history(name)

    keep = progress.Progress.on_epoch_end

    def press_ctrl_c(callback: progress.Progress, epoch: int, logs: dict) -> None:
        keep(callback, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "on_epoch_end", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train.train(name)
    assert in_project.digests(outs[0]).items() <= undisturbed.items()
    assert history(name) == epochs[:3]
    assert json.loads(train.reports(name)[1].read_text())["epoch"] == 2
    capsys.readouterr()
    train.train(name)
    assert f"{name}: continuing after epoch 2 of 4" in capsys.readouterr().out
    assert in_project.digests(*outs) == undisturbed
    assert not Path(f"models/.partial/{name}").exists()
