"""Several devices train a network together."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

TWO_DEVICES = """
import json
import sys
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from contextlib import nullcontext
from pathlib import Path
import keras
import numpy as np
from stages.shared.networks import backbones, heads
from stages.shared.networks.families.table import NETWORKS
from stages.shared.networks.families.vgg import vgg
from stages.train import standardised
from stages.shared.networks.devices import Memory
from stages.train.augmentation import RandomAugmentation
from stages.train.fit import NO_MEMORY
from stages.train.losses import PixelLoss
from stages.train.sampling import sampled
from stages.train.settings import Augmentation
from tests.train.test_training import Pixels, settings, train

folder = Path(sys.argv[1])

CHANGES = Augmentation(flip=True, scale=0.2, rotation=10, colour=0.2)

def trained(scope, options, loss, memory=NO_MEMORY, count=11, augment=None, pixels=1.0):
    keras.utils.set_random_seed(0)
    pictures = Pixels(count, bright=200.0)
    # Half of them count in a few pixels alone.
    pictures.masks[2:5, 1:] = 255
    # Building VGG19 takes longer than training it.
    NETWORKS["vgg19"] = NETWORKS["vgg19"]._replace(
        layers=lambda pictures, width, first: vgg(pictures, width, first, (1, 1, 1, 1, 1)))
    with scope:
        backbone = backbones.build("vgg19", width=0.0625, seed=1)
        channels = {tap: backbone.output[tap].shape[-1] for tap in reversed(backbone.output)}
        config = heads.HeadConfig(stride=8, channels=channels, classes=["a", "b", "absent"],
                                image_size=(4, 4), fit="stretch", backbone="vgg19")
        statistics = {tap: standardised.Statistics(np.zeros(n, "f4"), np.full(n, 100, "f4"))
                      for tap, n in channels.items()}
        head = standardised.head(config, statistics)
        network = heads.network(backbone, head)
        heads.set_projections(network.get_layer(index=2), {
            tap: heads.Projection(np.random.default_rng(n).normal(0, 0.3, (n, 3)).astype("f4"),
                           np.zeros(3, "f4"))
            for tap, n in channels.items()})
        start = network.get_weights()
        wanted = settings(**{"learning_rate": 0.01, "batch_size": 4, "epochs": 2} | options)
        augmentation = augment and RandomAugmentation(augment, seed=1)
        part = sampled(heads.scored(backbone, heads.scores(head)), 8, pixels, seed=1)
        rows = train(
            network, folder, wanted, PixelLoss(3, **loss), pictures, augmentation, memory, part)
    network.set_weights(network.last)
    return rows, start, network.get_weights()

devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for options, loss in json.loads(sys.argv[2]):
    seen = options.pop("seen", {})
    augment = Augmentation(**seen.pop("augment")) if "augment" in seen else None
    one, start, weights = trained(nullcontext(), options, loss, augment=augment, **seen)
    seen |= {"augment": augment, "memory": Memory(1e9, 0)}
    two, _, mirrored = trained(devices.scope(), options, loss, **seen)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(start, weights))
    apart = max(float(np.abs(a - b).max()) for a, b in zip(weights, mirrored))
    print(json.dumps([one[-1], two[-1], moved, apart]))
# Of the last batch, one picture, a device would have none.
rows, start, weights = trained(devices.scope(), {}, {}, Memory(1e9, 0), 9, CHANGES)
print(json.dumps({"lone": rows[-1], "moved": float(np.abs(start[0] - weights[0]).max())}))
"""
# Settings of the training, and of the loss.
SHARED_BATCHES = [
    (
        {"optimizer": "sgd", "learning_rate": 1.0, "clip_norm": 0.05},
        {"class_weights": [1.0, 5.0, 1.0], "dice": 1.0},
    ),
    (
        {"optimizer": "adamw", "clip_norm": 0.05, "weight_decay": 0.1, "ema_momentum": 0.5},
        {"dice": 0.5, "jaccard": 0.5},
    ),
    # A quarter of the pixels of augmented pictures; of no batch is there a part.
    (
        {
            "optimizer": "sgd",
            "learning_rate": 1.0,
            "clip_norm": 0.05,
            "seen": {"pixels": 0.25, "count": 12, "augment": {"flip": True, "scale": 0.2}},
        },
        {},
    ),
]


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `distribution.scope` does on two GPUs, on two logical CPU devices."""
    folder = str(tmp_path_factory.mktemp("devices"))
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, folder, json.dumps(SHARED_BATCHES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_devices_train_a_network_as_one_does(on_two_devices: str):
    trainings = [json.loads(line) for line in on_two_devices.splitlines() if line.startswith("[{")]
    assert len(trainings) == len(SHARED_BATCHES)
    for one, two, moved, apart in trainings:
        assert moved > 1e-3
        assert apart < 1e-5
        for key in one:
            # Keras weighs each device's mean by its pictures, and the last batch is shared
            # unevenly.
            near = {"abs": 0.3} if key == "loss" else {"abs": 1e-4}
            assert two[key] == pytest.approx(one[key], **near)


def test_a_device_without_a_picture_of_the_last_batch_trains_on(on_two_devices: str):
    (found,) = (json.loads(line) for line in on_two_devices.splitlines() if '{"lone"' in line)
    assert found["moved"] > 1e-3
    assert np.isfinite(list(found["lone"].values())).all()
