"""data/dataset.json: what the records hold."""

from typing import Literal

import numpy as np
from pydantic import BaseModel

from stages.shared.manifest import Manifest
from stages.shared.runtime.digests import digest_of
from stages.shared.runtime.paths import DATASET_FILE

# The ignore label: no loss and no metric counts such a pixel of a mask.
IGNORED = 255


class LeftOut(BaseModel):
    """A picture that `dataset.bad_pictures: skip` left out, and why."""

    split: str
    name: str
    reason: str


class Shard(BaseModel):
    """One file of records.

    Attributes:
        file: its name in data/records/.
        pictures: how many it holds.
        digest: SHA-256 of it.
    """

    file: str
    pictures: int
    digest: str


class Dataset(Manifest):
    """What the records hold.

    Attributes:
        source: the settings of the source they were made from.
        image_size: (height, width) in pixels.
        fit: how pictures were brought to this size, see `pictures.fit`.
        classes: class names; a mask's value is an index into them, or `IGNORED`.
        pixel_share: of each class among the pixels of each split that count, 0 to 1.
        shards: the files of each split, in order.
        left_out: pictures that could not be used.
    """

    schema_version: Literal[2] = 2
    source: dict[str, object]
    image_size: tuple[int, int]
    fit: str
    classes: list[str]
    pixel_share: dict[str, dict[str, float]]
    shards: dict[str, list[Shard]]
    left_out: list[LeftOut]

    @classmethod
    def load(cls) -> "Dataset":
        """Read dataset.json.

        Raises:
            UserError: it is damaged, or of another version of the pipeline.
        """
        return cls.read(DATASET_FILE)

    @property
    def digest(self) -> str:
        """SHA-256 of all that the records hold and of what it stands for."""
        return digest_of(repr([self.image_size, self.classes, sorted(self.shards.items())]))

    def pictures(self, split: str) -> int:
        """How many pictures a split has."""
        return sum(shard.pictures for shard in self.shards[split])


def pixel_share(counts: np.ndarray, classes: list[str]) -> dict[str, float]:
    """Pixel counts of each class, integer (classes,), as rounded shares of their sum."""
    shares = counts / max(counts.sum(), 1)
    return dict(zip(classes, shares.round(6).tolist(), strict=True))
