"""Stage `evaluate@VARIANT`: a trained head, measured on the held-out split.

    models/VARIANT/, data/features/ -> reports/VARIANT/{metrics.json, confusion.csv},
                                       data/evaluation/VARIANT/

The features of the split were computed with the others, so no picture goes through the backbone
again. data/evaluation/ gathers what compare shows: DVC can depend on a folder, not on each entry
of a list.
"""

import csv
import json
from collections.abc import Iterator

import numpy as np
from keras import ops
from tqdm import tqdm

from stages.shared import errors, fcn, params, predictions, scores
from stages.shared.activations import Features, SplitReader
from stages.shared.outputs import MODELS_DIR, REPORTS_DIR
from stages.shared.predictions import Summary
from stages.shared.scores import Scores


class Measurement:
    """Runs a head over a split and adds up what it gets right.

    Args:
        name: the variant.
        split: `train`, `validation` or `test`.
        batch_size: pictures at once.

    Attributes:
        classes: their names.
        confusion: pixels by class in truth and class predicted, (classes, classes), so far.
        loss: cross-entropy, summed over all pixels so far.
    """

    def __init__(self, name: str, split: str, batch_size: int) -> None:
        features = Features.load()
        self.name, self.batch_size = name, batch_size
        self.head = fcn.load_head(MODELS_DIR / name, features.image_size)
        self.reader = SplitReader(features, split, list(self.head.input))
        self.classes = features.classes
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.loss = 0.0

    def predictions(self) -> Iterator[np.ndarray]:
        """The class map of each picture, uint8 (height, width); measures as it goes."""
        pictures = len(self.reader)
        with tqdm(total=pictures, desc=f"evaluate {self.name}", unit="picture") as progress:
            for start in range(0, pictures, self.batch_size):
                indices = np.arange(start, min(start + self.batch_size, pictures))
                taps, masks = self.reader.take(indices)
                logits = self.head.predict_on_batch(taps)
                losses = ops.sparse_categorical_crossentropy(masks, logits, from_logits=True)
                self.loss += float(np.sum(ops.convert_to_numpy(losses), dtype=np.float64))
                predicted = logits.argmax(axis=-1).astype(np.uint8)
                self.confusion += scores.confusion(masks, predicted, len(self.classes))
                progress.update(len(indices))
                yield from predicted


def evaluate(name: str) -> None:
    """Measure the variant `name` and write its metrics, confusion matrix and predictions."""
    settings = params.read("evaluate")
    measurement = Measurement(name, settings.split, settings.batch_size)
    predictions.write(name, measurement.predictions())

    confusion, classes = measurement.confusion, measurement.classes
    result = scores.score(confusion)
    iou = {c: _rounded(value) for c, value in zip(classes, result.iou, strict=True)}
    write_metrics(name, measurement.loss / confusion.sum(), result, iou)
    write_confusion(name, confusion, classes)
    Summary(iou=iou, history=read_history(name)).save(name)


def write_metrics(name: str, loss: float, result: Scores, iou: dict[str, float | None]) -> None:
    """Write metrics.json: one row of `dvc metrics show`."""
    metrics = {"loss": _rounded(loss)} | {
        key: _rounded(value) for key, value in result._asdict().items() if key != "iou"
    }
    path = REPORTS_DIR / name / "metrics.json"
    path.write_text(json.dumps(metrics | {"iou": iou}, indent=2) + "\n", encoding="utf-8")


def write_confusion(name: str, confusion: np.ndarray, classes: list[str]) -> None:
    """Write confusion.csv: pixels by true and predicted class, and their share of the true."""
    with (REPORTS_DIR / name / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["truth", "predicted", "pixels", "share"])
        for truth, row in zip(classes, confusion.tolist(), strict=True):
            for predicted, pixels in zip(classes, row, strict=True):
                writer.writerow([truth, predicted, pixels, round(pixels / max(sum(row), 1), 5)])


def read_history(name: str) -> list[dict[str, int | float]]:
    """The rows of a variant's history.csv."""
    with (REPORTS_DIR / name / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def _rounded(value: float) -> float | None:
    """To five decimals, which leave out what a processor's rounding decides; None for NaN."""
    return None if np.isnan(value) else round(float(value), 5)


if __name__ == "__main__":
    errors.run_stage(evaluate, "VARIANT")
