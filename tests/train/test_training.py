"""Schedules, optimisers, class weights, early stopping, several devices."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.shared.runtime.errors import UserError
from stages.train.batches import Batches
from stages.train.fit import fit
from stages.train.losses import PixelLoss, class_weights
from stages.train.optimizers import optimizer, schedule
from stages.train.progress import Progress
from stages.train.settings import Train
from tests.conftest import ROOT

STEPS = 100


def settings(**changes) -> Train:
    basic = {"epochs": 3, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0, "dropout": 0}
    return Train(**basic | changes)


def rates(**changes) -> list[float]:
    """The learning rate at each step."""
    planned = schedule(settings(**changes), STEPS)
    return [float(planned(step)) for step in range(STEPS)]


def test_a_constant_schedule_is_constant():
    assert rates() == pytest.approx([0.1] * STEPS)


def test_a_cosine_falls_from_the_learning_rate_to_zero():
    expected = [0.05 * (1 + np.cos(np.pi * step / STEPS)) for step in range(STEPS)]
    assert rates(schedule="cosine") == pytest.approx(expected, abs=1e-6)


def test_a_polynomial_falls_as_deeplab_s():
    expected = [0.1 * (1 - step / STEPS) ** 0.9 for step in range(STEPS)]
    assert rates(schedule="polynomial") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial"])
def test_a_warmup_rises_in_a_straight_line_and_leaves_the_rest_alone(name: str):
    plain, warm = rates(schedule=name), rates(schedule=name, warmup=0.1)
    assert warm[:10] == pytest.approx([p * (i + 1) / 10 for i, p in enumerate(plain[:10])])
    assert warm[10:] == pytest.approx(plain[10:])


def test_the_optimisers_are_keras_s_with_the_settings():
    adamw = optimizer(settings(weight_decay=0.02, clip_norm=3), STEPS)
    assert isinstance(adamw, keras.optimizers.AdamW)
    assert (adamw.weight_decay, adamw.global_clipnorm) == (0.02, 3)
    sgd = optimizer(settings(optimizer="sgd"), STEPS)
    assert isinstance(sgd, keras.optimizers.SGD)
    assert sgd.momentum == 0.9
    assert sgd.global_clipnorm is None


def test_training_in_float16_scales_the_loss():
    wanted = settings(optimizer="sgd")
    scaled = optimizer(wanted, STEPS, "mixed_float16")
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert isinstance(scaled.inner_optimizer, keras.optimizers.SGD)
    assert not isinstance(
        optimizer(wanted, STEPS, "mixed_bfloat16"), keras.optimizers.LossScaleOptimizer
    )


def test_balanced_weights_are_the_inverse_of_the_pixel_shares():
    shares = {"pet": 0.5, "background": 0.25, "border": 0.25, "absent": 0.0}
    weights = class_weights("balanced", shares)
    assert weights[:3] == pytest.approx([0.5, 1, 1])
    assert np.isfinite(weights[3])


def test_weights_are_given_by_class_name():
    shares = {"pet": 0.5, "background": 0.5}
    assert class_weights({"background": 3.0}, shares) == [1.0, 3.0]
    assert class_weights(None, shares) is None
    with pytest.raises(UserError, match="class_weights names dog, which is not a class"):
        class_weights({"dog": 2.0}, shares)


class Pixels:
    """A reader of pictures of 4 x 4, each of one class and dark or bright as its class has it."""

    bright = 1.0

    def __init__(self, pictures: int) -> None:
        self.masks = np.zeros((pictures, 4, 4), np.uint8)
        self.masks[::2] = 1
        self.inputs = np.repeat(self.masks[..., None] * self.bright, 3, axis=-1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.masks)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.inputs[indices], self.masks[indices]


def classifier() -> keras.Model:
    """A 1x1 score layer that starts at zero."""
    pixels = keras.Input((None, None, 3))
    return keras.Model(pixels, keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(pixels))


def train(model: keras.Model, folder: Path, wanted: Train) -> list[dict]:
    batches = Batches(Pixels(8), wanted.batch_size, seed=0)
    validation = Batches(Pixels(4), wanted.batch_size)
    progress = Progress(folder / "state.npz", wanted.epochs, wanted.patience)
    fit(model, PixelLoss(2), batches, validation, wanted, "x", progress)
    (folder / "state.npz").unlink()
    return progress.rows


def test_training_stops_after_epochs_without_a_better_validation_mean_iou(tmp_path: Path):
    """All is right after the first epoch, so no later one is better."""
    rows = train(classifier(), tmp_path, settings(epochs=50, patience=2))
    assert float(rows[1]["val_mean_iou"]) == 1
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimiser_learns(optimizer: str, tmp_path: Path):
    rows = train(classifier(), tmp_path, settings(optimizer=optimizer, schedule="cosine"))
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])


TWO_DEVICES = """
import sys
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from contextlib import nullcontext
from pathlib import Path
import json
import keras
from stages.shared.networks import fcn, vgg
from stages.train import standardised
from tests.train import test_training as t

t.Pixels.bright = 200.0

def weights(scope, folder):
    keras.utils.set_random_seed(0)
    with scope:
        backbone = vgg.backbone(width=0.0625, seed=1)
        channels = {tap: x.shape[-1] for tap, x in backbone.output.items()}
        config = fcn.HeadConfig(stride=8, channels=channels, classes=["a", "b"])
        statistics = {tap: standardised.Statistics(t.np.zeros(n, "f4"), t.np.full(n, 100, "f4"))
                      for tap, n in channels.items()}
        network = fcn.network(backbone, standardised.head(config, statistics))
        wanted = t.settings(optimizer="sgd", learning_rate=0.01, batch_size=4)
        rows = t.train(network, Path(folder), wanted)
    return rows, sum(float(t.np.abs(w).sum()) for w in network.get_weights())

one = weights(nullcontext(), sys.argv[1])
two = weights(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope(), sys.argv[1])
print(json.dumps([one, two]))
"""


def test_two_devices_train_a_network_as_one_does(tmp_path: Path):
    """What `devices.all_gpus` does on two GPUs, on two logical CPU devices."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (one, weights), (two, mirrored) = json.loads(done.stdout.splitlines()[-1])
    assert mirrored == pytest.approx(weights, rel=1e-5)
    for row, mirrored_row in zip(one, two, strict=True):
        for key in row:
            assert float(mirrored_row[key]) == pytest.approx(float(row[key]), abs=1e-4)
    assert float(one[-1]["loss"]) < 0.98 * float(one[0]["loss"])
