"""What the processors of this machine supply to an accelerator: `python -m benchmarks.host`.

On an accelerator the arithmetic is fast, and what the host does for a picture sets the pace. Here
the arithmetic is left out: the backbone answers with the same activations at once, and a network of
nearly nothing is trained. Writes host.json and host.md, with a forecast for accelerators that
nobody has measured, from these rates and from results.json, which `python -m benchmarks.run`
writes.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import yaml
from keras import ops

from benchmarks import input as originals
from benchmarks.rates import EpochTimes, activations, device, head_config
from benchmarks.workspace import ROOT
from stages.features.encoding import Encoded, ShardWriter
from stages.features.shard import ComputedShard, write_shard
from stages.prepare.settings import DemoSource
from stages.shared.networks import backbones, heads
from stages.shared.networks.compiled import Answer
from stages.shared.networks.devices import Memory
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.results import cost
from stages.shared.results.pages import markdown
from stages.shared.runtime.digests import digest
from stages.train.augmentation import RandomAugmentation
from stages.train.batches import Batches, Reader
from stages.train.fit import fit
from stages.train.losses import PixelLoss
from stages.train.progress import Progress
from stages.train.settings import Augmentation, Train

NETWORK, SIZE, STRIDES = "vgg19", (224, 224), (8, 16, 32)
BATCH = 32
# Of the notebook's run: pictures of Oxford-IIIT Pet, epochs, networks.
TRAIN, VALIDATION, TEST = 3128, 552, 3669
EPOCHS, NETWORKS = 20, 3
# Of an accelerator's peak, in convolutions.
SHARE = 0.4


class Accelerator(NamedTuple):
    """An accelerator as its maker describes it.

    Attributes:
        teraflops: of dense products of matrices in half precision, 10^12 a second.
        share: of it that convolutions are taken to reach.
    """

    teraflops: float
    share: float = SHARE

    def pictures_a_second(self, flop: float) -> float:
        """Of so many multiplications and additions each."""
        return 1e12 * self.teraflops * self.share / flop


ACCELERATORS = {"T4": Accelerator(65), "A100": Accelerator(312), "H200": Accelerator(989)}
# Of the machine that an accelerator is in.
CORES = 16


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    growth = json.loads((options.out / "results.json").read_text())["growth"]
    found = measure(options.pictures) | {"starting": starting(growth)}
    (options.out / "host.json").write_text(json.dumps(found, indent=2) + "\n")
    text = f"{table(found)}\n{forecast(found)}"
    (options.out / "host.md").write_text(text)
    print(text)


def measure(pictures: int) -> dict[str, Any]:
    """Pictures a second of each part, and what a picture takes of an accelerator."""
    backbone = backbones.build(NETWORK, strides=STRIDES)
    shapes = backbones.tap_shapes(backbone, SIZE)
    flop = cost.flop(backbone, {"pictures": (*SIZE, 3)})
    with tempfile.TemporaryDirectory() as folder:
        shard = records(pictures, Path(folder))
        reader = shards.PictureReader(dataset_of(shard), "train", Path(folder))
        computing, part = features(shard, shapes, Path(folder))
        return {
            "device": device(),
            "cores": len(os.sched_getaffinity(0)),
            "gflop": flop / 1e9,
            "head_gflop": cost.flop(head_on(shapes), shapes) / 1e9,
            "pictures_a_second": {
                "prepare": prepare(),
                "features": computing,
                "activations": read(activations([part], [pictures], shapes, SIZE, Path(folder))),
                "read": read(reader),
                "augmented": augmented(reader),
                "step": step(TRAIN, Path(folder)),
            },
        }


def starting(growth: list[dict[str, Any]]) -> float:
    """Seconds that the stages of `benchmarks.run` take with no picture to train on: on a straight
    line through its runs, what processes take to start, to compile and to store a network."""
    pictures = [run["pictures"] for run in growth]
    seconds = [sum(run["seconds"].values()) for run in growth]
    return float(np.polyfit(pictures, seconds, 1)[1])


def head_on(shapes: dict[str, tuple[int, int, int]]) -> keras.Model:
    """FCN-8s on these taps."""
    channels = {tap: shapes[tap][-1] for tap in backbones.from_coarse(shapes, min(STRIDES))}
    return heads.build(head_config("fcn8s", channels, SIZE[0], NETWORK))


def records(pictures: int, folder: Path) -> Shard:
    """A file of so many pictures of noise."""
    rng, path = np.random.default_rng(0), folder / "train-00000.tfrecord"
    shards.write(
        path,
        (
            shards.Record(
                f"{number}.jpg",
                rng.integers(0, 256, (*SIZE, 3), np.uint8),
                rng.integers(0, 3, SIZE, np.uint8),
            )
            for number in range(pictures)
        ),
    )
    return Shard(file=path.name, pictures=pictures, digest=digest(path))


def dataset_of(shard: Shard) -> Dataset:
    """A data set of one shard, as far as a reader looks at it."""
    return Dataset(
        source={},
        image_size=SIZE,
        fit="stretch",
        classes=["a", "b", "c"],
        pixels={},
        shards={"train": [shard]},
        left_out=[],
    )


def prepare() -> float:
    """JPEG and PNG to pictures and masks of the records' size."""
    demo = yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())["dataset"]
    files = originals.encoded(DemoSource.model_validate(demo))
    return originals.rate(partial(originals.originals, files, SIZE))


def features(
    shard: Shard, shapes: dict[str, tuple[int, int, int]], folder: Path
) -> tuple[float, ComputedShard]:
    """Records to files of activations, and what these are."""
    rng = np.random.default_rng(0)
    taps = {
        tap: Encoded(
            rng.integers(0, 256, (BATCH, *shape), np.uint8),
            *(np.ones((BATCH, *rest, shape[-1]), np.float32) for rest in ((2,), (), ())),
        )
        for tap, shape in shapes.items()
    }

    def answer(images: np.ndarray) -> Answer:
        return Answer(taps, len(images))

    began = time.perf_counter()
    batches = shards.batches(shard, SIZE, BATCH, folder)
    writer = ShardWriter(folder, "train", 0, shard.pictures)
    part = write_shard(answer, "train", batches, "float32", list(shapes), writer, lambda _: None)
    return shard.pictures / (time.perf_counter() - began), part


def read(reader: Reader) -> float:
    """Files to batches of a training, where its splits do not fit into memory."""
    return streamed(reader, lambda batch: None)


def streamed(reader: Reader, step: Callable[[dict[str, Any]], object]) -> float:
    """Batches of a training, through a step that the first of them compiles."""
    batches = Batches(reader, BATCH, seed=1)
    stream = batches.stream()
    step(next(stream)[0])
    began = time.perf_counter()
    for _ in range(len(batches)):
        step(next(stream)[0])
    return len(reader) / (time.perf_counter() - began)


class Augmented(keras.Model):
    """A network's augmentation, and of what it gives one number a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.augment = RandomAugmentation(Augmentation(), seed=1)

    def call(self, batch: dict[str, Any]) -> keras.KerasTensor:
        pictures, masks = self.augment(batch["inputs"], batch["masks"])
        return ops.mean(pictures, (1, 2, 3)) + ops.mean(ops.cast(masks, "float32"), (1, 2))


def augmented(reader: shards.PictureReader) -> float:
    """Records to flipped, scaled and recoloured pictures, as a network's step begins."""
    return streamed(reader, Augmented().predict_on_batch)


def step(pictures: int, folder: Path) -> float:
    """Resident splits through `fit`, all but the arithmetic."""
    network = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
    small, epochs = Small(pictures), EpochTimes()
    settings = Train(epochs=4, batch_size=BATCH, learning_rate=1e-3, weight_decay=0.0, dropout=0.0)

    fit(
        network,
        PixelLoss(3),
        Batches(small, BATCH, seed=1),
        Batches(Small(BATCH), BATCH),
        settings,
        "step",
        Progress(folder / "state.npz", settings.epochs),
        memory=Memory(2**30, 0),
        callbacks=[epochs.callback()],
    )
    return len(small) / min(epochs.seconds)


class Small:
    """A reader of pictures of 8 x 8."""

    def __init__(self, pictures: int) -> None:
        self.images = np.zeros((pictures, 8, 8, 3), np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and masks."""
        return self.images[indices], np.zeros((len(indices), 8, 8), np.uint8)


def table(found: dict[str, Any]) -> str:
    """What the host supplies, beside what accelerators ask for."""
    supplied, flop = found["pictures_a_second"], found["gflop"] * 1e9
    asked = {
        "features": ("`features`: records to files, the backbone's answer at once", 1.0),
        "activations": ("a head's training, activations read as they are needed", None),
        "read": ("a network's training, pictures read as they are needed", 3.0),
        "augmented": ("the same, augmented on this machine's processors", 3.0),
        "step": ("a training through `fit`, resident, a step of no arithmetic", None),
        "prepare": ("`prepare`: JPEG and PNG of 500 x 375", None),
    }
    rows = []
    for name, (text, passes) in asked.items():
        wanted = [
            f"{each.pictures_a_second(passes * flop):,.0f}" if passes else ""
            for each in ACCELERATORS.values()
        ]
        rows.append((text, f"{supplied[name]:,.0f}", *wanted))
    columns = ("pictures a second", "the host supplies", *(f"{n} asks for" for n in ACCELERATORS))
    return (
        f"On {found['device']}. Pictures of {SIZE[1]} x {SIZE[0]}; {NETWORK}, "
        f"{found['gflop']:.1f} GFLOP a picture, three times that with its gradient, at "
        f"{SHARE:.0%} of an accelerator's peak. On an accelerator the augmentation is its work, "
        f"not the host's. FCN-8s takes {found['head_gflop']:.3f} GFLOP a picture, so a head's "
        f"training asks for all that there is.\n\n{markdown(columns, rows)}\n"
    )


def forecast(found: dict[str, Any]) -> str:
    """The notebook's whole run and the pipeline's, on machines that were not measured."""
    rows = [
        (name, *(f"{minutes:.1f}" for minutes in minutes_of(found, each)))
        for name, each in ACCELERATORS.items()
    ]
    columns = ("forecast, minutes", "the notebook's way", "the pipeline", "of that prepare")
    return (
        f"{markdown(columns, rows)}\n\nA forecast, not a measurement: {NETWORKS} networks on "
        f"frozen {NETWORK}, {EPOCHS} epochs of {TRAIN:,} pictures, {VALIDATION} for validation and "
        f"{TEST:,} to test, on a machine of {CORES} cores. `prepare` is taken to grow with the "
        f"cores, as it runs on all of them, and nothing else. {found['starting']:.0f} s of the "
        "pipeline are those in which its processes start, compile and store the network here; "
        "compiling for an accelerator takes longer. Of the notebook's way none are counted.\n"
    )


def minutes_of(found: dict[str, Any], accelerator: Accelerator) -> Iterator[float]:
    """Of the notebook's way, of the pipeline, and of its `prepare`."""
    rates = found["pictures_a_second"]
    forward = 1 / accelerator.pictures_a_second(found["gflop"] * 1e9)
    decode = 1 / (rates["prepare"] * CORES / found["cores"])
    # It decodes and resizes in each epoch, beside the accelerator.
    epochs = NETWORKS * EPOCHS * (TRAIN + VALIDATION)
    yield epochs * max(forward, decode) / 60
    pictures = TRAIN + VALIDATION + TEST
    prepare = pictures * decode
    features = pictures * max(forward, 1 / rates["features"])
    yield (found["starting"] + prepare + features + epochs / rates["step"]) / 60
    yield prepare / 60


if __name__ == "__main__":
    main()
