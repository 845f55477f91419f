"""Tiles: a picture cut on a grid into records, and what was found on them put together again.

Neighbours overlap. Of each tile the part is kept that ends in the middle of the overlap, so that a
pixel of the picture is that of one tile, and one that lies as far from its sides as can be (the
overlap-tile strategy: "U-Net", Ronneberger, Fischer, Brox, 2015, figure 2).
"""

import math
from collections.abc import Iterable
from itertools import islice, pairwise, product
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from stages.shared.records.ignore_label import IGNORED

Size = tuple[int, int]
# Along an axis, what is read of a tile and what is kept.
Span = tuple[slice, slice]
# Between a picture's name and a tile's place in it.
BEFORE_PLACE = " ["


class Tiling(BaseModel):
    """How pictures are cut.

    Attributes:
        scale: of the picture that is cut, 1 for its own.
        overlap: share of a tile's side that its neighbour has as well, at least.
    """

    scale: float
    overlap: float


class Tile(NamedTuple):
    """A part of a picture: rows and columns.

    Attributes:
        read: what a network sees; may end beyond a picture that is smaller than a tile.
        kept: those of them whose result counts, counted from the picture's corner.
    """

    read: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """`kept`, counted from the corner of `read`."""
        rows, columns = (
            slice(kept.start - read.start, kept.stop - read.start)
            for read, kept in zip(self.read, self.kept, strict=True)
        )
        return rows, columns


class Grid(NamedTuple):
    """A picture of (height, width) `size`, and its tiles, row by row."""

    size: Size
    tiles: list[Tile]


def grid(size: Size, tile: Size, overlap: float) -> Grid:
    """Tiles that cover a picture, evenly spaced, the outermost at its sides.

    Args:
        size: (height, width) of the picture.
        tile: of each tile.
        overlap: see `Tiling`.

    Example:
        >>> [tile.read[1] for tile in grid((64, 144), (64, 64), 0.25).tiles]
        [slice(0, 64, None), slice(40, 104, None), slice(80, 144, None)]
    """
    rows, columns = (_spans(*sides, overlap) for sides in zip(size, tile, strict=True))
    return Grid(size, crossed(rows, columns))


def whole(size: Size) -> Grid:
    """A picture that is its only tile."""
    return grid(size, size, 0)


def crossed(rows: Iterable[Span], columns: Iterable[Span]) -> list[Tile]:
    """The tiles of these rows and columns, row by row."""
    return [Tile(*zip(row, column, strict=True)) for row, column in product(rows, columns)]


def _spans(length: int, side: int, overlap: float) -> list[Span]:
    """What is read and what is kept along an axis."""
    step = max(1, side - math.ceil(side * overlap))
    count = 1 + max(0, math.ceil((length - side) / step))
    starts = np.linspace(0, max(0, length - side), count).round().astype(int).tolist()
    middles = [(start + side + after) // 2 for start, after in pairwise(starts)]
    bounds = [0, *middles, length]
    return [
        (slice(start, start + side), slice(*kept))
        for start, kept in zip(starts, pairwise(bounds), strict=True)
    ]


def stitched(parts: Iterable[np.ndarray], grid: Grid) -> np.ndarray:
    """What was found on a picture's tiles, as found on the picture.

    Args:
        parts: of each tile, (height, width, ...); no more are taken than there are tiles.
        grid: of the picture.

    Returns:
        (height, width, ...), of the same dtype.
    """
    own = list(islice(parts, len(grid.tiles)))
    picture = np.empty((*grid.size, *own[0].shape[2:]), own[0].dtype)
    for tile, part in zip(grid.tiles, own, strict=True):
        picture[tile.kept] = part[tile.inner]
    return picture


def ignore_shared(mask: np.ndarray, tile: Tile) -> None:
    """Ignore the pixels of a tile's mask, uint8 (height, width), that count on its neighbours."""
    kept = mask[tile.inner].copy()
    mask[:] = IGNORED
    mask[tile.inner] = kept


def tile_name(picture: str, tile: Tile) -> str:
    """The name of a tile: the picture's, and its rows and columns."""
    rows, columns = (f"{part.start}:{part.stop}" for part in tile.read)
    return f"{picture}{BEFORE_PLACE}{rows}, {columns}]"


def picture_name(tile: str) -> str:
    """The name of the picture that a tile of this name is of."""
    return tile.rpartition(BEFORE_PLACE)[0]
