"""Features and training on arrays, under any Keras backend, on this machine's fastest device.

    KERAS_BACKEND=jax python -m benchmarks.rates

TensorFlow need not be installed for another backend. Prints one JSON object.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from stages.features.encoding import Encoded, encoder, run
from stages.features.shard import Moments
from stages.shared.formats.features import tap_bytes
from stages.shared.networks import backbones, devices, heads, precision
from stages.shared.networks.families.table import NETWORKS
from stages.shared.networks.stored import on_stored
from stages.shared.results import cost
from stages.shared.runtime import start
from stages.shared.settings.section import DEFAULT_MEMORY
from stages.train import standardised
from stages.train.batches import Batches
from stages.train.fit import fit
from stages.train.losses import PixelLoss
from stages.train.progress import Progress
from stages.train.settings import Train
from stages.train.standardised import Statistics

MATRIX_SIZE = {"cpu": 2048, "gpu": 16384}
CLASSES = 3


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="vgg19")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    start.keep_freed_memory()
    with redirect_stdout(sys.stderr):
        rates = measure(options)
    print(json.dumps(rates, indent=2))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rates."""
    keras.utils.set_random_seed(0)
    policy = precision.policy(options.precision)
    backbone = backbones.build(options.network, options.width, seed=0, dtype=policy)
    size = (options.image_size, options.image_size)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (options.pictures, *size, 3), np.uint8)
    masks = rng.integers(0, CLASSES, (options.pictures, *size), np.uint8)

    flop = cost.flop(backbone, {"pictures": (*size, 3)})
    peak = matrix_flops(keras.dtype_policies.get(policy).compute_dtype)
    taps, seconds = run_backbone(backbone, pictures, options.batch_size)
    return {
        "backend": keras.backend.backend(),
        "device": device(),
        "precision": policy,
        "gflop_a_picture": flop / 1e9,
        "feature_bytes_a_picture": tap_bytes(tap.values.shape[1:] for tap in taps.values()),
        "matrix_tflops": peak / 1e12,
        "features_pictures_a_second": options.pictures / seconds,
        "features_share_of_matrix_peak": flop * options.pictures / seconds / peak,
        "heads": {
            f"fcn{stride}s": train_head(stride, taps, masks, options) for stride in (32, 16, 8)
        },
    }


def matrix_flops(dtype: str) -> float:
    """Floating-point operations a second of a large product of square matrices."""
    size = MATRIX_SIZE["gpu" if devices.gpus() else "cpu"]
    model = keras.Sequential([keras.Input((size,), dtype=dtype)])
    model.add(keras.layers.Dense(size, use_bias=False, dtype=dtype))
    matrix = ops.ones((size, size), dtype)
    repeats = 10
    seconds = min(timed(lambda: finish(model(matrix))) for _ in range(repeats))
    return 2 * size**3 / seconds


def run_backbone(
    backbone: keras.Model, pictures: np.ndarray, batch_size: int
) -> tuple[dict[str, Encoded], float]:
    """The encoded taps of all pictures, and the seconds it took once compiled, copies included."""
    network = encoder(backbone)
    batches = [pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size)]
    for batch in {len(b): b for b in batches}.values():
        run(network, batch)
    began = time.perf_counter()
    found = [run(network, batch) for batch in batches]
    seconds = time.perf_counter() - began
    taps = {
        tap: Encoded(*map(np.concatenate, zip(*(batch[tap] for batch in found), strict=True)))
        for tap in found[0]
    }
    return taps, seconds


class ArrayReader:
    """A `stages.train.batches.Reader` of encoded activations that lie in memory."""

    def __init__(self, taps: dict[str, Encoded], masks: np.ndarray) -> None:
        self.masks = masks
        self.arrays: dict[str, np.ndarray] = {}
        for tap, encoded in taps.items():
            self.arrays |= {tap: encoded.values, f"{tap}_scale": encoded.scale}

    def __len__(self) -> int:
        return len(self.masks)

    def take(self, indices: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The encoded activations and masks of some pictures."""
        return {key: array[indices] for key, array in self.arrays.items()}, self.masks[indices]


def train_head(
    stride: int, taps: dict[str, Encoded], masks: np.ndarray, options: argparse.Namespace
) -> dict[str, float]:
    """Train a head on all pictures and all of their pixels; its time and its losses."""
    taps = {tap: taps[tap] for tap in backbones.from_coarse(taps, stride)}
    moments = {tap: Moments.of(encoded) for tap, encoded in taps.items()}
    statistics = {
        tap: Statistics(np.array(of.mean, "float32"), np.array(of.deviation, "float32"))
        for tap, of in moments.items()
    }
    config = heads.HeadConfig(
        stride=stride,
        channels={tap: x.values.shape[-1] for tap, x in taps.items()},
        classes=[str(number) for number in range(CLASSES)],
        image_size=masks.shape[1:],
        fit="stretch",
        backbone=options.network,
    )
    settings = Train(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=1e-3,
        weight_decay=1e-4,
        dropout=0.0,
        pixels=1.0,
    )
    head = standardised.head(config, statistics, settings.dropout, masks.shape[1:])
    reader = ArrayReader(taps, masks)
    epochs = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        progress = Progress(Path(folder) / "state.npz", settings.epochs)
        fit(
            on_stored(head),
            PixelLoss(CLASSES),
            Batches(reader, options.batch_size, seed=0),
            Batches(reader, options.batch_size),
            settings,
            f"fcn{stride}s",
            progress,
            memory=DEFAULT_MEMORY * devices.memory(),
            callbacks=[epochs.callback()],
        )
    # A training pass and a validation pass over the same pictures; the first epoch compiles.
    return {
        "ms_a_picture_and_epoch": 1000 * min(epochs.seconds) / len(masks),
        "first_loss": progress.rows[0]["val_loss"],
        "last_loss": progress.rows[-1]["val_loss"],
    }


class EpochTimes:
    """Seconds of each epoch of a training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def callback(self) -> keras.callbacks.Callback:
        """A Keras callback that notes them."""
        started: list[float] = []
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: started.append(time.perf_counter()),
            on_epoch_end=lambda epoch, logs: self.seconds.append(time.perf_counter() - started[-1]),
        )


def finish(array: Any) -> None:
    """Wait until an array is computed."""
    ops.convert_to_numpy(array[:1, :1])


def timed(function: Callable[[], None]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def device() -> str:
    """What it ran on."""
    cores = f"{len(os.sched_getaffinity(0))} cores, {processor()}"
    return ", ".join(devices.gpus()) or cores


def processor() -> str:
    """The processor's name, as Linux has it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
