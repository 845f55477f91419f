"""The frozen backbone run on every step, as the notebook does it: `python -m benchmarks.recompute`.

Run in a workspace that has records and a backbone. Prints the seconds that an epoch takes of each
variant, on a part of the pictures, once everything is compiled. Its pictures come from the cached
records; the notebook decodes and resizes them anew in each epoch, so this side is flattered.
"""

import argparse
import json
import time

import keras
import numpy as np

from stages.shared.networks import backbones, devices, heads, precision
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.runtime import start
from stages.shared.runtime.paths import MODELS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Name, Precision
from stages.train.settings import Train, Variant


class Batches(keras.utils.PyDataset):
    """The first pictures of a split, in their order."""

    def __init__(self, split: str, pictures: int, batch_size: int) -> None:
        super().__init__()
        self.reader = PictureReader(Dataset.load(), split)
        self.pictures, self.batch_size = min(pictures, len(self.reader)), batch_size

    def __len__(self) -> int:
        return -(-self.pictures // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start = index * self.batch_size
        return self.reader.take(np.arange(start, min(start + self.batch_size, self.pictures)))


def main() -> None:
    """Time an epoch of each variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, required=True, help="pictures to train on")
    parser.add_argument("--validation", type=int, required=True, help="pictures to validate on")
    options = parser.parse_args()
    start.keep_freed_memory()
    settings = read("train", Train)
    classes = Dataset.load().classes
    seconds = {}
    for name, variant in read("variants", dict[Name, Variant]).items():
        model = notebook_model(variant.stride, classes)
        batches = Batches("train", options.train, settings.batch_size)
        validation = Batches("validation", options.validation, settings.batch_size)
        model.compile(
            optimizer=keras.optimizers.AdamW(
                settings.learning_rate, weight_decay=settings.weight_decay
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[
                keras.metrics.MeanIoU(num_classes=len(classes), sparse_y_pred=False),
                keras.metrics.SparseCategoricalAccuracy(),
            ],
            jit_compile=devices.compiles(),
        )
        # What compiles does so here, before the clock starts.
        model.train_on_batch(*batches[len(batches) - 1])
        model.test_on_batch(*validation[len(validation) - 1])
        began = time.perf_counter()
        model.fit(batches, validation_data=validation, verbose=0)
        seconds[name] = time.perf_counter() - began
    pictures = batches.pictures + validation.pictures
    print(json.dumps({"pictures": pictures, "seconds_an_epoch": seconds}))


def notebook_model(stride: int, classes: list[str]) -> keras.Model:
    """A frozen backbone, and a head on it."""
    policy = precision.policy(read("precision", Precision))
    backbone = backbones.load(MODELS_DIR / "vgg19", policy)
    backbone.trainable = False
    taps = backbones.from_coarse(backbone.output, stride)
    config = heads.HeadConfig(
        stride=stride,
        channels={tap: backbone.output[tap].shape[-1] for tap in taps},
        classes=classes,
        image_size=(0, 0),
        fit="stretch",
        backbone="vgg19",
    )
    return heads.network(backbone, heads.build(config))


if __name__ == "__main__":
    main()
