"""The frozen backbone run on every step, as the notebook does it: `python -m benchmarks.recompute`.

Run in a workspace that has records and a backbone. Prints the seconds that an epoch takes of each
variant, on a part of the pictures, once everything is compiled. As in the notebook, each epoch
decodes and resizes its pictures anew.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from benchmarks.input import encoded
from stages.prepare.settings import DemoSource
from stages.shared.networks import backbones, heads, precision
from stages.shared.records.dataset import Dataset
from stages.shared.runtime import start
from stages.shared.runtime.paths import MODELS_DIR
from stages.shared.runtime.tfdata import untuned
from stages.shared.settings.reading import read
from stages.shared.settings.section import Name, Precision
from stages.train.settings import Train, Variant


def batches(
    files: Sequence[tuple[bytes, bytes]], pictures: int, size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """So many pictures and masks, of these files over and over, decoded on all cores."""

    def decoded(picture: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.resize(tf.io.decode_jpeg(picture, channels=3), size)
        labels = tf.image.resize(tf.io.decode_png(mask, channels=1), size, "nearest")
        return image, labels[..., 0]

    columns = tuple(map(list, zip(*files, strict=True)))
    stream = tf.data.Dataset.from_tensor_slices(columns).repeat().take(pictures)
    # Of a fit of one epoch, waiting for the thread that tunes would be a large part.
    pairs = stream.map(decoded, os.cpu_count()).batch(batch_size).prefetch(2)
    return pairs.with_options(untuned())


def main() -> None:
    """Time an epoch of each variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, required=True, help="pictures to train on")
    parser.add_argument("--validation", type=int, required=True, help="pictures to validate on")
    options = parser.parse_args()
    start.keep_freed_memory()
    settings, dataset = read("train", Train), Dataset.load()
    classes, files = dataset.classes, encoded(read("dataset", DemoSource))
    train, validation = (
        batches(files, pictures, dataset.image_size, settings.batch_size)
        for pictures in (options.train, options.validation)
    )
    seconds = {}
    for name, variant in read("variants", dict[Name, Variant]).items():
        model = notebook_model(variant.stride, classes)
        model.compile(
            optimizer=keras.optimizers.AdamW(
                settings.learning_rate, weight_decay=settings.weight_decay
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[
                keras.metrics.MeanIoU(num_classes=len(classes), sparse_y_pred=False),
                keras.metrics.SparseCategoricalAccuracy(),
            ],
        )
        # What compiles does so here, before the clock starts.
        model.fit(train.take(1), validation_data=validation.take(1), verbose=0)
        began = time.perf_counter()
        model.fit(train, validation_data=validation, verbose=0)
        seconds[name] = time.perf_counter() - began
    pictures = options.train + options.validation
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
