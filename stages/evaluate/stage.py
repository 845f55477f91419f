"""Stage `evaluate@VARIANT`: a trained variant, measured on the held-out split.

    models/VARIANT/, data/features/BACKBONE/head/ or data/records/
        -> reports/VARIANT/{metrics.json, confusion.csv}, data/evaluation/VARIANT/

A head reads the features of the split, which were computed with the others; a variant with a
backbone of its own reads the pictures. data/evaluation/ gathers what compare shows: DVC can depend
on a folder, not on each entry of a list.
"""

import csv
import json
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from stages.evaluate.settings import Evaluate
from stages.shared.formats import predictions
from stages.shared.formats.features import (
    HEAD,
    NETWORK,
    FeatureReader,
    Features,
    folder_of,
    tap_bytes,
)
from stages.shared.formats.predictions import Cost, Summary
from stages.shared.networks import heads, precision
from stages.shared.networks.compiled import Compiled, in_turn
from stages.shared.networks.stored import on_stored
from stages.shared.records import tiles
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import PictureReader
from stages.shared.results import cost, scores
from stages.shared.results.averaged import Averaged, averages
from stages.shared.results.scores import Scores
from stages.shared.runtime import outputs
from stages.shared.runtime.console import bar, counted
from stages.shared.runtime.digests import marks_of_conflicts
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import EVALUATION_DIR, MODELS_DIR, REPORTS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Precision


class Measurement:
    """Runs a variant on a split and accumulates its loss and confusion matrix.

    Args:
        name: the variant.
        settings: the split, pictures at once, and how often each is seen.

    Attributes:
        dataset: that it is measured on.
        classes: their names.
        confusion: pixels by class in truth and class predicted, (classes, classes), so far.
        loss: cross-entropy, summed over the pixels that count, so far.
    """

    def __init__(self, name: str, settings: Evaluate) -> None:
        self.name, self.batch_size = name, settings.batch_size
        self.dataset, self.split = Dataset.load(), settings.split
        self.classes = heads.load_config(MODELS_DIR / name).classes
        views = settings.flip, settings.scales
        whole = averages(*views)
        network, self.reader = model_and_reader(name, settings.split, whole)
        self.averaged = Averaged(network, len(self.classes), *views) if whole else None
        # Averaged logits are measured as they are.
        logits = keras.Input((None, None, len(self.classes)))
        self.scored = Compiled(scored(keras.Model(logits, logits) if whole else network))
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.loss = 0.0

    def predictions(self) -> Iterator[np.ndarray]:
        """The class map of each picture, uint8 (height, width); updates loss and confusion."""
        with closing(self._of_records()) as found:
            for grid in self.dataset.grids(self.split):
                yield tiles.stitched(found, grid)

    def _of_records(self) -> Generator[np.ndarray]:
        """The class map of each record, uint8 (height, width)."""
        with bar(f"evaluate {self.name}", len(self.reader)) as progress:
            for masks, answer in in_turn(self.scored, self._batches()):
                losses, predicted = answer.arrays()
                self.loss += float(np.sum(losses[masks != IGNORED], dtype=np.float64))
                self.confusion += scores.confusion(masks, predicted, len(self.classes))
                progress.update(len(masks))
                yield from predicted

    def _batches(self) -> Iterator[tuple[np.ndarray, tuple[Any, np.ndarray]]]:
        """Masks, in which each pixel of a picture counts once, and the inputs of `scored`."""
        records = len(self.reader)
        cut = (tile for grid in self.dataset.grids(self.split) for tile in grid.tiles)
        for start in range(0, records, self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, records))
            taken: tuple[Any, np.ndarray] = self.reader.take(indices)
            inputs, masks = taken
            for mask, tile in zip(masks, cut, strict=False):
                tiles.ignore_shared(mask, tile)
            seen = self.averaged.predict_on_batch(inputs) if self.averaged else inputs
            yield masks, (seen, np.where(masks == IGNORED, 0, masks))


def scored(network: keras.Model) -> keras.Model:
    """A network's inputs and masks, uint8 (batch, height, width), to each pixel's cross-entropy,
    float32, and predicted class, uint8: what is measured is far less than logits."""
    masks = keras.Input((None, None), dtype="uint8")
    logits = network.output
    losses = ops.sparse_categorical_crossentropy(masks, logits, from_logits=True)
    return keras.Model(
        (network.input, masks), (losses, ops.cast(ops.argmax(logits, axis=-1), "uint8"))
    )


def model_and_reader(
    name: str, split: str, whole: bool = False
) -> tuple[keras.Model, FeatureReader | PictureReader]:
    """A variant's model and a reader of its inputs: features, if it has a frozen backbone.

    Args:
        name: of the variant.
        split: to read.
        whole: whether it is the whole network, which reads pictures, in any case.

    Raises:
        UserError: a file is damaged, or the variant does not match its inputs.
    """
    folder, policy = MODELS_DIR / name, precision.policy(read("precision", Precision))
    dataset, head = Dataset.load(), heads.load_config(folder)
    if head.classes != dataset.classes:
        raise UserError(
            f"{folder}/ has the classes {', '.join(head.classes)}, data/records/ has "
            f"{', '.join(dataset.classes)}; `dvc repro` trains it again"
        )
    if whole or not head.frozen:
        return heads.load_network(folder, policy), PictureReader(dataset, split)
    features = Features.load(head.backbone, HEAD)
    features.require_backbone(head.backbone_weights, folder)
    model = heads.load(folder, features.image_size)
    stored = folder_of(head.backbone, HEAD)
    return on_stored(model), FeatureReader(stored, features, split, list(model.input))


def cost_of(name: str, settings: Evaluate) -> Cost:
    """What a variant takes for a picture of the records, as it is measured.

    Its own backbone has the layers of the one that the features are of.
    """
    config = heads.load_config(MODELS_DIR / name)
    features = Features.load(config.backbone, HEAD if config.frozen else NETWORK)
    head = heads.build(config)
    shapes = {tap: features.taps[tap].shape for tap in config.channels}
    pixels = sum(scale**2 for scale in settings.scales) * (1 + settings.flip)
    gflop = (features.flop + cost.flop(head, shapes)) / 1e9 * pixels
    reads_features = config.frozen and not averages(settings.flip, settings.scales)
    return Cost(
        parameters=features.parameters + head.count_params(),
        gflop=float(f"{gflop:.4g}"),
        feature_bytes=tap_bytes(shapes.values()) if reads_features else None,
        passes=len(settings.scales) * (1 + settings.flip),
    )


def evaluate(name: str) -> str:
    """Measure the variant `name` and write its metrics, confusion matrix and predictions.

    Raises:
        UserError: as `model_and_reader`.
    """
    settings = read("evaluate", Evaluate)
    measurement = Measurement(name, settings)
    out, reports = EVALUATION_DIR / name, REPORTS_DIR / name
    metrics_file, confusion_file = reports / "metrics.json", reports / "confusion.csv"
    with outputs.writing(out, metrics_file, confusion_file) as staging:
        folder = staging.folder(out)
        digest = predictions.write(folder / predictions.PREDICTIONS_FILE, measurement.predictions())
        confusion, classes = measurement.confusion, measurement.classes
        result = scores.score(confusion)
        iou = {c: _rounded(value) for c, value in zip(classes, result.iou, strict=True)}
        summary = Summary(
            split=settings.split,
            records=measurement.dataset.digest,
            predictions=digest,
            cost=cost_of(name, settings),
            iou=iou,
            history=read_history(name),
        )
        summary.write(folder / predictions.SUMMARY_FILE)
        loss = measurement.loss / confusion.sum()
        write_metrics(staging.file(metrics_file), loss, result, summary.cost, iou)
        write_confusion(staging.file(confusion_file), confusion, classes)
    pictures = counted(measurement.dataset.pictures(settings.split), "picture")
    return (
        f"{name}: mean IoU {result.mean_iou:.1%}, pixel accuracy {result.pixel_accuracy:.1%} on "
        f"{pictures} ({settings.split} split)"
    )


def write_metrics(
    path: Path, loss: float, result: Scores, cost: Cost, iou: dict[str, float | None]
) -> None:
    """Write metrics.json: one row of `dvc metrics show`."""
    scores = {key: _rounded(value) for key, value in result._asdict().items() if key != "iou"}
    metrics = {"loss": _rounded(loss)} | scores | cost.model_dump() | {"iou": iou}
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_confusion(path: Path, confusion: np.ndarray, classes: list[str]) -> None:
    """Write confusion.csv: pixels by true and predicted class, and their share of the true."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["truth", "predicted", "pixels", "share"])
        for truth, row in zip(classes, confusion.tolist(), strict=True):
            for predicted, pixels in zip(classes, row, strict=True):
                writer.writerow([truth, predicted, pixels, round(pixels / max(sum(row), 1), 5)])


def read_history(name: str) -> list[dict[str, int | float | None]]:
    """The rows of a variant's history.csv; None for what was not measured or is not finite.

    Raises:
        UserError: the file is damaged.
    """
    path = REPORTS_DIR / name / "history.csv"
    with marks_of_conflicts(path), path.open(newline="", encoding="utf-8") as file:
        return [
            {key: _finite(float(value)) if value else None for key, value in row.items()}
            | {"epoch": int(row["epoch"])}
            for row in csv.DictReader(file)
        ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: float) -> float | None:
    """Rounded to five decimals, so that rounding by the processor does not show; None for NaN."""
    return None if np.isnan(value) else round(float(value), 5)
