"""data/dataset.json: what the records hold."""

import json
from typing import Literal

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
        pixels: of each class in each split, without those that are ignored.
        shards: the files of each split, in order.
        left_out: pictures that could not be used.
    """

    schema_version: Literal[3] = 3
    source: dict[str, object]
    image_size: tuple[int, int]
    fit: str
    classes: list[str]
    pixels: dict[str, dict[str, int]]
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
    def greys(self) -> tuple[float, float] | None:
        """The values that are black and white in pictures of more than 8 bits, if any may be."""
        match self.source.get("greys"):
            case [float(black) | int(black), float(white) | int(white)]:
                return black, white
        return None

    @property
    def digest(self) -> str:
        """SHA-256 of all that the records hold and of what it stands for."""
        held = self.model_dump(mode="json", include={"image_size", "classes", "shards"})
        return digest_of(json.dumps(held, sort_keys=True).encode())

    @property
    def pixel_share(self) -> dict[str, dict[str, float]]:
        """Of each split, each class's share of the pixels that count, 0 to 1."""
        return {
            split: {name: pixels / max(sum(counts.values()), 1) for name, pixels in counts.items()}
            for split, counts in self.pixels.items()
        }

    def pictures(self, split: str) -> int:
        """How many pictures a split has."""
        return sum(shard.pictures for shard in self.shards[split])
