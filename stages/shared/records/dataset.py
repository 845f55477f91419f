"""data/dataset.json: what the records hold."""

import json
import math
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from stages.shared.manifest import Manifest
from stages.shared.records import tiles
from stages.shared.records.tiles import Grid, Size, Tiling
from stages.shared.runtime.digests import digest_of
from stages.shared.runtime.paths import DATASET_FILE


class LeftOut(BaseModel):
    """A picture that `dataset.bad_pictures: skip` left out, and why."""

    split: str
    name: str
    reason: str


class Shard(BaseModel):
    """One file of records.

    Attributes:
        file: its name in data/records/.
        pictures: how many it holds; with tiles, each is one.
        digest: of it.
    """

    file: str
    pictures: int
    digest: str


class Dataset(Manifest):
    """What the records hold.

    Attributes:
        source: the settings of the source they were made from.
        image_size: (height, width) in pixels.
        fit: how pictures were brought to this size, see `decoding.fit`.
        tiling: how they were cut into records of this size; None: each record is a picture.
        sizes: with tiles, of each split the (height, width) of the pictures that were cut, in
            order.
        classes: class names; a mask's value is an index into them, or `IGNORED`.
        pixels: of each class in each split, without those that are ignored.
        shards: the files of each split, in order.
        left_out: pictures that could not be used.
    """

    schema_version: Literal[5] = 5
    source: dict[str, object]
    image_size: Size
    fit: str
    tiling: Tiling | None = None
    sizes: dict[str, list[Size]] = Field(default_factory=dict)
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
    def cut_from(self) -> tuple[Size, Size] | None:
        """(height, width) of the smallest and the largest training picture that was cut."""
        sizes = sorted(self.sizes["train"], key=math.prod) if self.tiling else []
        return (sizes[0], sizes[-1]) if sizes else None

    @property
    def digest(self) -> str:
        """Digest of all that the records hold and of what it stands for."""
        kept = {"image_size", "classes", "shards", "tiling", "sizes"}
        held = self.model_dump(mode="json", include=kept)
        return digest_of(json.dumps(held, sort_keys=True).encode())

    @property
    def pixel_share(self) -> dict[str, dict[str, float]]:
        """Of each split, each class's share of the pixels that count, 0 to 1."""
        return {
            split: {name: pixels / max(sum(counts.values()), 1) for name, pixels in counts.items()}
            for split, counts in self.pixels.items()
        }

    def records(self, split: str) -> int:
        """How many records a split has."""
        return sum(shard.pictures for shard in self.shards[split])

    def pictures(self, split: str) -> int:
        """How many pictures a split has."""
        return len(self.sizes[split]) if self.tiling else self.records(split)

    def grids(self, split: str) -> Iterable[Grid]:
        """The tiles of each picture of a split; their records come in this order."""
        return (self.grid(split, index) for index in range(self.pictures(split)))

    def grid(self, split: str, index: int) -> Grid:
        """The tiles of a picture of a split, by its index there."""
        if self.tiling is None:
            return tiles.whole(self.image_size)
        return tiles.grid(self.sizes[split][index], self.image_size, self.tiling.overlap)
