"""The variants' predictions of one split, picture by picture: what compare and the report show."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from stages.shared import predictions, records
from stages.shared.dataset import Dataset
from stages.shared.errors import UserError
from stages.shared.outputs import EVALUATION_DIR
from stages.shared.predictions import Summary

# Of a history: its columns that are drawn, and their names there.
PANELS = {"loss": "loss", "pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"}


class Shown(NamedTuple):
    """A picture to show, uint8 (height, width, 3), its mask, and each variant's, uint8."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    predicted: dict[str, np.ndarray]


def require_same(summaries: dict[str, Summary], dataset: Dataset, split: str) -> None:
    """Fail on an evaluation of something else than is to be shown.

    Raises:
        UserError: names it.
    """
    for name, summary in summaries.items():
        if (summary.records, summary.split) != (dataset.digest, split):
            raise UserError(
                f"{EVALUATION_DIR / name}/ is of other records or another split than "
                f"data/records/ and {split}; `dvc repro evaluate@{name}` measures it anew"
            )


def pictures(dataset: Dataset, summaries: dict[str, Summary], count: int) -> Iterator[Shown]:
    """`count` pictures evenly spaced over the split, or all if it has fewer."""
    (split,) = {summary.split for summary in summaries.values()}
    total = dataset.pictures(split)
    chosen = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    found = (
        record
        for shard in dataset.shards[split]
        for batch in records.batches(shard, dataset.image_size, 32)
        for record in zip(*batch, strict=True)
    )
    masks_of = (predictions.read(name, summary) for name, summary in summaries.items())
    pairs = zip(found, zip(*masks_of, strict=True), strict=True)
    for index, ((name, image, truth), masks) in enumerate(islice(pairs, max(chosen) + 1)):
        if index in chosen:
            yield Shown(name, image, truth, dict(zip(summaries, masks, strict=True)))
