"""data/evaluation/VARIANT/: what evaluate found out about a variant, for compare to show."""

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from pydantic import BaseModel

from stages.shared import outputs
from stages.shared.outputs import EVALUATION_DIR

SUMMARY_FILE = "summary.json"
PREDICTIONS_FILE = "predictions.tfrecord"


class Summary(BaseModel):
    """A variant's results.

    Attributes:
        iou: of each class, 0 to 1; None for a class that does not occur.
        history: the rows of history.csv.
    """

    iou: dict[str, float | None]
    history: list[dict[str, int | float]]

    @classmethod
    def load(cls, variant: str) -> "Summary":
        """Read a variant's summary."""
        path = EVALUATION_DIR / variant / SUMMARY_FILE
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def save(self, variant: str) -> None:
        """Write a variant's summary."""
        path = EVALUATION_DIR / variant / SUMMARY_FILE
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write(variant: str, masks: Iterable[np.ndarray]) -> None:
    """Write a variant's predicted masks, uint8 (height, width), in the split's order, as PNG."""
    folder = outputs.fresh_folder(EVALUATION_DIR / variant)
    with tf.io.TFRecordWriter(str(folder / PREDICTIONS_FILE)) as writer:
        for mask in masks:
            writer.write(tf.io.encode_png(mask[..., None]).numpy())


def read(variant: str) -> Iterator[np.ndarray]:
    """The predicted masks of a variant, uint8 (height, width) each, in the split's order."""
    path = EVALUATION_DIR / variant / PREDICTIONS_FILE
    for png in tf.data.TFRecordDataset(str(path)):
        yield tf.io.decode_png(png, channels=1).numpy()[..., 0]
