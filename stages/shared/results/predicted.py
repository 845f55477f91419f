"""All variants' predictions of one split, picture by picture."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stages.shared.formats import predictions
from stages.shared.formats.predictions import Summary
from stages.shared.records import tiles
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import EVALUATION_DIR

# Of a history: its columns that are drawn, and their names there.
PANELS = {"loss": "loss", "pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"}


class Predicted(NamedTuple):
    """A picture, uint8 (height, width, 3), its mask, and each variant's, uint8 (height, width)."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    predicted: dict[str, np.ndarray]


def require_same(summaries: dict[str, Summary], dataset: Dataset, split: str) -> None:
    """Fail on an evaluation of other records or of another split.

    Raises:
        UserError: names it.
    """
    for name, summary in summaries.items():
        if (summary.records, summary.split) != (dataset.digest, split):
            raise UserError(
                f"{EVALUATION_DIR / name}/ was measured on other records or another split than "
                f"data/records/ and {split}; `dvc repro evaluate@{name}` measures it again"
            )


def pictures(
    dataset: Dataset, summaries: dict[str, Summary], indices: Iterable[int]
) -> Iterator[Predicted]:
    """Pictures of the split by their indices in it, read one by one.

    Raises:
        UserError: a file is damaged.
    """
    (split,) = {summary.split for summary in summaries.values()}
    records = PictureReader(dataset, split)
    starts = np.cumsum([0, *(len(grid.tiles) for grid in dataset.grids(split))])
    every = dataset.pictures(split)
    masks = {name: predictions.reader(name, s, every) for name, s in summaries.items()}
    for index in indices:
        names, images, truths = zip(
            *(records[record] for record in range(starts[index], starts[index + 1])), strict=True
        )
        grid = dataset.grid(split, index)
        yield Predicted(
            tiles.picture_name(names[0]) if dataset.tiling else names[0],
            tiles.stitched(images, grid),
            tiles.stitched(truths, grid),
            {name: mask[index] for name, mask in masks.items()},
        )
