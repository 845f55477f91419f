"""A shard of records, made from examples and from nothing else."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stages.prepare.decoding import Example, Labels, fit
from stages.prepare.facts import DOUBTS, Facts
from stages.prepare.settings import AnySource
from stages.shared.formats.pictures import BadPictureError, Size, scaled_size
from stages.shared.manifest import Part
from stages.shared.records import shards, tiles
from stages.shared.records.dataset import LeftOut
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import Record, bytes_of
from stages.shared.records.tiles import Tiling
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map

# Of a file of records; the features of its pictures take a few times as much.
SHARD_BYTES = 2**29
# Records of a core that wait to be written.
AHEAD = 2


class PreparedShard(Part):
    """A finished shard: a file, or several if its tiles are many, or none if nothing can be used.

    Attributes:
        split: that it is of.
        records: in each file.
        pixels: of each class in its masks.
        facts: of its pictures.
        left_out: the examples that could not be used.
    """

    schema_version: Literal[5] = 5
    split: str
    records: dict[str, int]
    pixels: list[int]
    facts: list[Facts]
    left_out: list[LeftOut]


class Prepared(NamedTuple):
    """A picture's records, its mask, uint8 (height, width), and what is known of it."""

    records: list[Record]
    mask: np.ndarray
    facts: Facts


def tiling(settings: AnySource) -> Tiling | None:
    """How pictures are cut; None: they are not."""
    if settings.scale is None or settings.overlap is None:
        return None
    return Tiling(scale=settings.scale, overlap=settings.overlap)


def fitted_size(size: Size, settings: AnySource) -> Size:
    """The (height, width) of a picture of `size` as it is fitted, before it is filled up or cut."""
    return scaled_size(size, settings.image_size, settings.fit, settings.scale)


def most_records(settings: AnySource) -> int:
    """The most records in a file."""
    return min(settings.shard_size, max(1, SHARD_BYTES // bytes_of(1, settings.image_size)))


def prepare_shard(
    settings: AnySource,
    labels: Labels,
    split: str,
    name: str,
    examples: list[Example],
    folder: Path,
    tick: Callable[[int], object],
) -> PreparedShard:
    """Write a shard of records.

    Args:
        settings: the data set.
        labels: what stands in its masks.
        split: of the examples.
        name: of the shard, and of its files without their suffix.
        examples: what it is made from.
        folder: where it is written.
        tick: is called with the number of finished examples.

    Raises:
        UserError: an example can't be used, and `dataset.bad_pictures` is `stop`.
    """
    facts: list[Facts] = []
    left_out: list[LeftOut] = []
    pixels = np.zeros(len(labels.classes), np.int64)

    def prepared(example: Example) -> tuple[str, Prepared | BadPictureError]:
        return example.name, _prepared(example, settings, labels, split)

    def usable() -> Iterator[Record]:
        for name, result in ordered_map(prepared, examples, AHEAD):
            tick(1)
            if isinstance(result, Prepared):
                facts.append(result.facts)
                counted = result.mask[result.mask != IGNORED]
                pixels[:] += np.bincount(counted, minlength=len(pixels))
                yield from result.records
            elif settings.bad_pictures == "skip":
                left_out.append(LeftOut(split=split, name=name, reason=str(result)))
            else:
                raise UserError(
                    f"{name} (split {split}): {result}; to leave such pictures out, set "
                    "dataset.bad_pictures to skip"
                )

    written = write_files(folder, name, usable(), most_records(settings))
    return PreparedShard(
        files={file: digests.digest(folder / file) for file in written},
        split=split,
        records=written,
        pixels=pixels.tolist(),
        facts=facts,
        left_out=left_out,
    )


def write_files(folder: Path, name: str, records: Iterator[Record], most: int) -> dict[str, int]:
    """Write records to files of at most so many; the number in each file."""
    written: dict[str, int] = {}
    for first in records:
        file = f"{name}-{len(written)}.tfrecord" if written else f"{name}.tfrecord"
        written[file] = shards.write(folder / file, chain([first], islice(records, most - 1)))
    return written


def _prepared(
    example: Example, settings: AnySource, labels: Labels, split: str
) -> Prepared | BadPictureError:
    """Decode, fit and cut one example; an error is returned, not raised."""
    try:
        image, stored, doubts = example.decode()
        mask = labels.indices(stored, DOUBTS["jpeg"] if "jpeg" in doubts else "")
    except BadPictureError as error:
        return BadPictureError(f"{error} (its mask is {example.mask})") if example.mask else error
    fitted = fit(image, mask, settings.image_size, settings.fit, settings.scale)
    facts = Facts(
        name=example.name,
        split=split,
        size=mask.shape,
        digest=digests.digest_of(np.ascontiguousarray(fitted[0]).data),
        classes=sorted(set(np.unique(fitted[1]).tolist()) - {IGNORED}),
        doubts=doubts,
    )
    return Prepared(list(cut(example.name, *fitted, settings, facts.size)), fitted[1], facts)


def cut(
    name: str, image: np.ndarray, mask: np.ndarray, settings: AnySource, size: Size
) -> Iterator[Record]:
    """The records of a fitted picture, which had this (height, width) before."""
    how = tiling(settings)
    if how is None:
        yield Record(name, image, mask)
        return
    grid = tiles.grid(fitted_size(size, settings), settings.image_size, how.overlap)
    for tile in grid.tiles:
        yield Record(tiles.tile_name(name, tile), image[tile.read], mask[tile.read])
