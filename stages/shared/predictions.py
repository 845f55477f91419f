"""data/evaluation/VARIANT/: what evaluate found out about a variant, for compare to show."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import tensorflow as tf

from stages.shared import manifest
from stages.shared.errors import UserError
from stages.shared.manifest import Manifest
from stages.shared.outputs import EVALUATION_DIR

SUMMARY_FILE = "summary.json"
PREDICTIONS_FILE = "predictions.tfrecord"


class Summary(Manifest):
    """A variant's results.

    Attributes:
        split: that it was measured on.
        records: digest of the records that it was measured on.
        predictions: SHA-256 of the file of its predicted masks.
        iou: of each class, 0 to 1; None for a class that does not occur.
        history: the rows of history.csv.
    """

    split: str
    records: str
    predictions: str
    iou: dict[str, float | None]
    history: list[dict[str, int | float]]

    @classmethod
    def load(cls, variant: str) -> Self:
        """Read a variant's summary.

        Raises:
            UserError: it is damaged, or of another version of the pipeline.
        """
        return cls.read(EVALUATION_DIR / variant / SUMMARY_FILE)


def write(path: Path, masks: Iterable[np.ndarray]) -> str:
    """Write predicted masks, uint8 (height, width), in the split's order, as PNG; their digest."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for mask in masks:
            writer.write(tf.io.encode_png(mask[..., None]).numpy())
    return manifest.digest(path)


def read(variant: str, summary: Summary) -> Iterator[np.ndarray]:
    """The predicted masks of a variant, uint8 (height, width) each, in the split's order.

    Raises:
        UserError: the file is damaged.
    """
    path = EVALUATION_DIR / variant / PREDICTIONS_FILE
    manifest.require_whole({path: summary.predictions})
    try:
        for png in tf.data.TFRecordDataset(str(path)):
            yield tf.io.decode_png(png, channels=1).numpy()[..., 0]
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise UserError(manifest.damaged(path, str(error).splitlines()[0])) from None
