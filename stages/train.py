"""Stage `train@VARIANT`: one FCN head, trained on the stored activations.

    data/features/, models/PARENT/ -> models/VARIANT/, reports/VARIANT/history.csv

A variant starts from its parent's scores, and the score layer that it adds starts at zero, so
before its first step it says what its parent says. The start counts as epoch 0, and the weights of
the epoch with the best validation mean IoU are kept.
"""

import csv
import math
from functools import partial
from pathlib import Path

import keras
import numpy as np
from tqdm.keras import TqdmCallback

from stages.shared import errors, fcn, params
from stages.shared.activations import Features, SplitReader
from stages.shared.errors import UserError
from stages.shared.fcn import HeadConfig
from stages.shared.measures import MeanIoU, PixelAccuracy
from stages.shared.outputs import MODELS_DIR, REPORTS_DIR
from stages.shared.params import Train

MEASURES = ("loss", "mean_iou", "pixel_accuracy")
COLUMNS = ("epoch", *MEASURES, *(f"val_{measure}" for measure in MEASURES))

Logs = dict[str, float] | None


class Batches(keras.utils.PyDataset):
    """Batches of activations and masks; with a seed, in a new order each epoch.

    Args:
        reader: the split.
        batch_size: pictures in a batch; the last may have fewer.
        seed: of the order; None keeps the order of the records.
    """

    def __init__(self, reader: SplitReader, batch_size: int, seed: int | None = None) -> None:
        super().__init__()
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.epoch = 0
        self._reorder()

    def __len__(self) -> int:
        return math.ceil(len(self.reader) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.reader.take(np.sort(chosen))

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._reorder()

    def _reorder(self) -> None:
        self.order = np.arange(len(self.reader))
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(self.order)


class BestWeights(keras.callbacks.Callback):
    """Ends on the weights of the epoch with the best validation mean IoU, the first of equals.

    Args:
        start: what was measured before the first step, as epoch 0.
    """

    def __init__(self, start: dict[str, float]) -> None:
        super().__init__()
        self.best = start["val_mean_iou"]

    def on_train_begin(self, logs: Logs = None) -> None:
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs["val_mean_iou"] > self.best:
            self.best = logs["val_mean_iou"]
            self.weights = self.model.get_weights()

    def on_train_end(self, logs: Logs = None) -> None:
        self.model.set_weights(self.weights)


class HistoryFile(keras.callbacks.Callback):
    """Writes history.csv, a row an epoch as soon as the epoch is over."""

    def __init__(self, path: Path, start: dict[str, float]) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")
        self.writer.writeheader()
        self._row(0, start)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._row(epoch + 1, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        self.file.close()

    def _row(self, epoch: int, logs: dict[str, float]) -> None:
        values = {name: round(logs[name], 6) for name in COLUMNS[1:]}
        self.writer.writerow({"epoch": epoch} | values)
        self.file.flush()


def train(name: str) -> None:
    """Train the variant `name` and store it as a plain FCN head.

    Raises:
        UserError: the loss is not finite.
    """
    variant, seed = params.read(f"variants.{name}"), params.read("seed")
    settings = variant.training(params.read("train"))
    keras.utils.set_random_seed(seed)

    features = Features.load()
    taps = fcn.taps_of(variant.stride)
    statistics = {tap: features.taps[tap].statistics for tap in taps}
    config = HeadConfig(
        stride=variant.stride,
        channels={tap: len(statistics[tap].mean) for tap in taps},
        classes=features.classes,
    )
    head = fcn.head(config, statistics, settings.dropout, features.image_size)
    if variant.parent != "backbone":
        parent = fcn.scores(fcn.load_head(MODELS_DIR / variant.parent))
        fcn.set_scores(head, {t: fcn.unfold(s, statistics[t]) for t, s in parent.items()})

    batches = Batches(SplitReader(features, "train", taps), settings.batch_size, seed)
    validation = Batches(SplitReader(features, "validation", taps), settings.batch_size)
    fit(head, len(config.classes), batches, validation, settings, name)

    plain = fcn.head(config)
    fcn.set_scores(plain, {t: fcn.fold(s, statistics[t]) for t, s in fcn.scores(head).items()})
    fcn.save_head(plain, config, MODELS_DIR / name)


def fit(
    head: keras.Model,
    classes: int,
    batches: Batches,
    validation: Batches,
    settings: Train,
    name: str,
) -> None:
    """Train a head in place, to its best epoch, and write its history.

    Raises:
        UserError: the loss is not finite.
    """
    head.compile(
        optimizer=keras.optimizers.AdamW(
            settings.learning_rate, weight_decay=settings.weight_decay
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[MeanIoU(classes), PixelAccuracy(classes)],
    )
    measure = partial(head.evaluate, return_dict=True, verbose=0)
    start = measure(batches) | {f"val_{k}": v for k, v in measure(validation).items()}
    history = head.fit(
        batches,
        validation_data=validation,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            BestWeights(start),
            HistoryFile(REPORTS_DIR / name / "history.csv", start),
            TqdmCallback(epochs=settings.epochs, desc=f"train {name}"),
        ],
    )
    if not math.isfinite(history.history["loss"][-1]):
        raise UserError(
            f"the loss of {name} is no longer finite in epoch {len(history.history['loss'])}; "
            f"lower variants.{name}.learning_rate or train.learning_rate "
            f"(it was {settings.learning_rate:g})"
        )


if __name__ == "__main__":
    errors.run_stage(train, "VARIANT")
