"""data/evaluation/VARIANT/: the results of evaluate for a variant, which compare reads."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import BaseModel

from stages.shared.manifest import Manifest
from stages.shared.records import tfrecord
from stages.shared.records.tfrecord import Entries
from stages.shared.runtime.digests import digest
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.runtime.paths import EVALUATION_DIR

SUMMARY_FILE = "summary.json"
PREDICTIONS_FILE = "predictions.tfrecord"


class Cost(BaseModel):
    """What a variant takes for a picture.

    Attributes:
        parameters: weights of the whole network.
        gflop: 10^9 multiplications and additions, see `cost.flop`.
        feature_bytes: stored activations that its head reads; None if it reads pictures.
        passes: of each picture through it, by `evaluate.flip` and `evaluate.scales`.
    """

    parameters: int
    gflop: float
    feature_bytes: int | None
    passes: int


class Summary(Manifest):
    """A variant's results.

    Attributes:
        split: that it was measured on.
        records: digest of the records that it was measured on.
        predictions: digest of the file of its predicted masks.
        cost: of a picture.
        iou: of each class, 0 to 1; None for a class that does not occur.
        history: the rows of history.csv; None for a value that was not measured or is not finite.
    """

    schema_version: Literal[5] = 5
    split: str
    records: str
    predictions: str
    cost: Cost
    iou: dict[str, float | None]
    history: list[dict[str, int | float | None]]

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur."""
        occurring = [value for value in self.iou.values() if value is not None]
        return sum(occurring) / len(occurring)

    @property
    def best_epoch(self) -> int:
        """The first with the highest validation mean IoU: its weights were kept."""
        values = [row["val_mean_iou"] or 0.0 for row in self.history]
        return values.index(max(values))

    @classmethod
    def load(cls, variant: str) -> Self:
        """Read a variant's summary.

        Raises:
            UserError: it is damaged, or of another version of the pipeline.
        """
        return cls.read(EVALUATION_DIR / variant / SUMMARY_FILE)


def write(path: Path, masks: Iterable[np.ndarray]) -> str:
    """Write predicted masks, uint8 (height, width), in the split's order, as PNG; their digest."""
    tfrecord.write(path, ordered_map(encode, masks))
    return digest(path)


def reader(variant: str, summary: Summary, pictures: int) -> Entries[np.ndarray]:
    """Random access to the predicted masks of a variant, uint8 (height, width).

    Args:
        variant: its name.
        summary: of it.
        pictures: how many the split has.
    """
    path = EVALUATION_DIR / variant / PREDICTIONS_FILE
    return Entries(path, pictures, summary.predictions, decode)


def encode(mask: np.ndarray) -> bytes:
    """A mask, uint8 (height, width), as it is stored."""
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG")
    return png.getvalue()


def decode(content: bytes) -> np.ndarray:
    """A stored mask, uint8 (height, width).

    Raises:
        ValueError: it is no PNG.
    """
    try:
        # `Image.open` refuses the size that a picture of tiles may have.
        return np.asarray(PngImageFile(io.BytesIO(content)))
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from None
