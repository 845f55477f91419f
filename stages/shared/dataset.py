"""data/dataset.json: what the records hold."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from stages.shared import outputs

DATASET_FILE = Path("data/dataset.json")
# In a mask: a pixel that no loss and no measure counts.
IGNORED = 255


class LeftOut(BaseModel):
    """A picture that `dataset.bad_pictures: skip` left out, and why."""

    split: str
    name: str
    reason: str


class Shard(BaseModel):
    """One file of records: its name in data/records/ and how many pictures it holds."""

    file: str
    pictures: int


class Dataset(BaseModel):
    """What the records hold.

    Attributes:
        source: the settings of the source they were made from.
        image_size: (height, width) in pixels.
        fit: how pictures of other sizes got there, see `pictures.fit`.
        classes: class names; a mask's value is an index into them, or `IGNORED`.
        pixel_share: of each class among the pixels of each split that count, 0 to 1.
        shards: the files of each split, in order.
        left_out: pictures that could not be used.
    """

    model_config = ConfigDict(frozen=True)

    source: dict[str, object]
    image_size: tuple[int, int]
    fit: str
    classes: list[str]
    pixel_share: dict[str, dict[str, float]]
    shards: dict[str, list[Shard]]
    left_out: list[LeftOut]

    @classmethod
    def load(cls, path: Path = DATASET_FILE) -> "Dataset":
        """Read dataset.json."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def save(self, path: Path = DATASET_FILE) -> None:
        """Write dataset.json."""
        outputs.fresh_file(path).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def pictures(self, split: str) -> int:
        """How many pictures a split has."""
        return sum(shard.pictures for shard in self.shards[split])


def pixel_share(counts: np.ndarray, classes: list[str]) -> dict[str, float]:
    """Pixel counts of each class, integer (classes,), as rounded shares of their sum."""
    shares = counts / max(counts.sum(), 1)
    return dict(zip(classes, shares.round(6).tolist(), strict=True))
