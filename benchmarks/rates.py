"""Features and training on arrays, under any Keras backend, on this machine's fastest device.

    KERAS_BACKEND=jax python -m benchmarks.rates

TensorFlow need not be installed for another backend. Prints one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from stages.features.encoding import ShardWriter, encoder
from stages.features.shard import ComputedShard, Moments, write_shard
from stages.shared.formats.features import FeatureReader, Features, FeatureShard, Tap, tap_bytes
from stages.shared.networks import backbones, devices, heads, precision
from stages.shared.networks.families.table import NETWORKS
from stages.shared.networks.heads import HeadConfig
from stages.shared.networks.stored import on_stored
from stages.shared.records.shards import Batch
from stages.shared.results import cost
from stages.shared.runtime import start
from stages.shared.settings.section import DEFAULT_MEMORY
from stages.train import standardised
from stages.train.augmentation import RandomAugmentation
from stages.train.batches import Batches, Held, held
from stages.train.fit import fit
from stages.train.losses import PixelLoss
from stages.train.progress import Progress
from stages.train.sampling import Sampled, sampled
from stages.train.settings import Augmentation, Train
from stages.train.standardised import Statistics

MATRIX_SIZE = {"cpu": 2048, "gpu": 16384}
CLASSES = 3
# Multiplications and additions of a training step, in those of a prediction.
PASSES = 3


class Head(NamedTuple):
    """What a head is made of, see `HeadConfig`."""

    stride: int
    decoder: str = "fcn"
    width: int = 0
    context: int = 0


HEADS = {
    "fcn32s": Head(32),
    "fcn16s": Head(16),
    "fcn8s": Head(8),
    "mlp": Head(8, "mlp", width=128, context=1),
}
# Of the network that is trained as a whole.
TRAINED = "fcn8s"


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="vgg19")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--features-batch-size", type=int, help="default: --batch-size")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--validation", type=float, default=1.0, help="pictures for each of them")
    parser.add_argument("--pixels", type=float, default=0.25, help="share that the loss counts")
    parser.add_argument("--heads", choices=HEADS, nargs="*", default=list(HEADS))
    parser.add_argument("--train-network", action="store_true", help="train the backbone, too")
    options = parser.parse_args()
    start.keep_freed_memory()
    # As a stage does, before anything is computed.
    options.memory = devices.memory(DEFAULT_MEMORY)
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
    together = options.features_batch_size or options.batch_size
    stored, moments, seconds = run_backbone(backbone, pictures, masks, together)
    found = {
        "backend": keras.backend.backend(),
        "device": device(),
        "precision": policy,
        "gflop_a_picture": flop / 1e9,
        "feature_bytes_a_picture": tap_bytes(backbones.tap_shapes(backbone, size).values()),
        "matrix_tflops": peak / 1e12,
        "features_pictures_a_second": options.pictures / seconds,
        "features_share_of_matrix_peak": flop * options.pictures / seconds / peak,
        "validation_pictures_for_each": options.validation,
        "heads": {name: train_head(name, stored, moments, options) for name in options.heads},
    }
    if options.train_network:
        rate = train_network(backbone, pictures, masks, options)
        found["training_pictures_a_second"] = rate
        found["training_share_of_matrix_peak"] = PASSES * flop * rate / peak
    return found


def matrix_flops(dtype: str) -> float:
    """Floating-point operations a second of a large product of square matrices."""
    size = MATRIX_SIZE["gpu" if devices.gpus() else "cpu"]
    model = keras.Sequential([keras.Input((size,), dtype=dtype)])
    model.add(keras.layers.Dense(size, use_bias=False, dtype=dtype))
    # A product of ones takes less power, and then less time.
    matrix = keras.random.normal((size, size), dtype=dtype, seed=0)
    repeats = 10
    seconds = min(timed(lambda: finish(model(matrix))) for _ in range(repeats))
    return 2 * size**3 / seconds


def run_backbone(
    backbone: keras.Model, pictures: np.ndarray, masks: np.ndarray, batch_size: int
) -> tuple[Held, dict[str, Moments], float]:
    """Shards of activations made as the stage makes them, a shard a thread: what they hold, the
    taps' moments, and the seconds it took, copies and files included, once all is compiled and the
    memory for the copies is taken."""
    size = masks.shape[1:]
    encode, shapes = encoder(backbone, batch_size), backbones.tap_shapes(backbone, size)
    shares = np.array_split(np.arange(len(pictures)), devices.threads())
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(shares)) as pool:
        folder = Path(name)

        def shard(number: int) -> ComputedShard:
            starts = range(0, len(shares[number]), batch_size)
            parts = (shares[number][start : start + batch_size] for start in starts)
            batches = (Batch([""] * len(part), pictures[part], masks[part]) for part in parts)
            writer = ShardWriter(folder, "train", number, len(shares[number]))
            return write_shard(encode, "train", batches, "", [*shapes], writer, lambda _: None)

        def all_shards() -> tuple[list[ComputedShard], float]:
            began = time.perf_counter()
            return list(pool.map(shard, range(len(shares)))), time.perf_counter() - began

        all_shards()
        made, seconds = all_shards()
        moments = {tap: sum((of.moments[tap] for of in made), Moments()) for tap in shapes}
        found = held(activations(made, [len(share) for share in shares], shapes, size, folder))
    return found, moments, seconds


def activations(
    shards: Sequence[ComputedShard],
    pictures: Sequence[int],
    shapes: dict[str, tuple[int, int, int]],
    size: tuple[int, int],
    folder: Path,
) -> FeatureReader:
    """A reader of shards of so many pictures of a size each."""
    features = Features(
        records="",
        backbone_weights="",
        precision="float32",
        image_size=size,
        classes=[],
        parameters=0,
        flop=0,
        taps={tap: Tap(shape=shape, mean=[], deviation=[]) for tap, shape in shapes.items()},
        shards={
            "train": [
                FeatureShard(number=number, pictures=count, files=shard.files)
                for number, (count, shard) in enumerate(zip(pictures, shards, strict=True))
            ]
        },
    )
    return FeatureReader(folder, features, "train", list(shapes))


def train_head(
    name: str, stored: Held, moments: dict[str, Moments], options: argparse.Namespace
) -> dict[str, float]:
    """Train a head on all pictures; its time and its losses."""
    arrays, masks = stored.arrays
    assert isinstance(arrays, dict)
    taps = backbones.from_coarse(moments, HEADS[name].stride)
    statistics = {
        tap: Statistics(np.array(of.mean, "float32"), np.array(of.deviation, "float32"))
        for tap, of in ((tap, moments[tap]) for tap in taps)
    }
    channels = {tap: arrays[tap].shape[-1] for tap in taps}
    config = head_config(name, channels, options.image_size, options.network)
    head = standardised.head(config, statistics, 0.0, masks.shape[1:])
    network = on_stored(head)
    reader = Held({name: arrays[name] for name in network.input}, masks)
    validation = Held(*reader.take(np.arange(round(options.validation * len(masks)))))
    scores = on_stored(heads.scores(head))
    part = sampled(scores, config.stride, options.pixels, seed=0)
    epochs, rows = fitted(network, reader, validation, options, part)
    # A training pass and a validation pass; the first epoch compiles.
    return {
        "ms_a_picture_and_epoch": 1000 * min(epochs.seconds) / len(masks),
        "first_loss": rows[0]["val_loss"],
        "last_loss": rows[-1]["val_loss"],
    }


def train_network(
    backbone: keras.Model, pictures: np.ndarray, masks: np.ndarray, options: argparse.Namespace
) -> float:
    """Train a backbone and a head together on augmented pictures; pictures a second."""
    taps = backbones.from_coarse(backbone.output, HEADS[TRAINED].stride)
    channels = {tap: backbone.output[tap].shape[-1] for tap in taps}
    head = heads.build(head_config(TRAINED, channels, options.image_size, options.network))
    scores = heads.scored(backbone, heads.scores(head))
    epochs, _ = fitted(
        heads.network(backbone, head),
        Held(pictures, masks),
        Held(pictures[: options.batch_size], masks[: options.batch_size]),
        options,
        sampled(scores, HEADS[TRAINED].stride, options.pixels, seed=0),
        RandomAugmentation(Augmentation(), seed=0),
    )
    return len(masks) / min(epochs.seconds)


def head_config(name: str, channels: dict[str, int], size: int, backbone: str) -> HeadConfig:
    """Configuration of a head on taps of so many channels, the coarsest first."""
    return HeadConfig(
        **HEADS[name]._asdict(),
        channels=channels,
        classes=[str(number) for number in range(CLASSES)],
        image_size=(size, size),
        fit="stretch",
        backbone=backbone,
    )


def fitted(
    network: keras.Model,
    reader: Held,
    validation: Held,
    options: argparse.Namespace,
    part: Sampled | None,
    augment: RandomAugmentation | None = None,
) -> tuple["EpochTimes", list[dict[str, float]]]:
    """Train a network by the stage's `fit`; the time of each epoch, and what was measured."""
    settings = Train(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=1e-3,
        weight_decay=1e-4,
        dropout=0.0,
        pixels=options.pixels,
    )
    epochs = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        progress = Progress(Path(folder) / "state.npz", settings.epochs)
        fit(
            network,
            PixelLoss(CLASSES),
            Batches(reader, options.batch_size, seed=0),
            Batches(validation, options.batch_size),
            settings,
            network.name,
            progress,
            augment=augment,
            memory=options.memory,
            sampled=part,
            callbacks=[epochs.callback()],
        )
    return epochs, progress.rows


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
    if not devices.gpus():
        return cores
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
    return f"{', '.join(filter(None, names))}; {cores}"


def processor() -> str:
    """The processor's name, as Linux has it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
