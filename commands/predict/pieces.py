"""How a picture goes through a network: in one piece, or in tiles if it is large.

tiles of the training   if the network was trained on tiles
exact tiles             if a tile covers all that a network looks at: as in one piece
blended tiles           else: the mean over tiles that overlap
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from stages.shared.formats.pictures import Size, padded
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE
from stages.shared.records.tiles import Tile, crossed, grid
from stages.shared.runtime.errors import UserError

# Read around a tile of a network that sees more than a tile, in pixels; tiles then overlap by twice
# as much.
BLENDED = 256
SMALLEST_BLENDED = 2 * BLENDED + COARSEST_STRIDE
# Side of the largest picture that goes through a network in one piece, in pixels.
TILE = 1536


class Network(Protocol):
    """From pictures, uint8 (n, height, width, 3), to logits, float32 (n, height, width, logits)."""

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        """The logits of a batch."""


class Piece(NamedTuple):
    """Rows and columns of a picture, and their logits, float32 (height, width, n)."""

    place: tuple[slice, slice]
    logits: np.ndarray


class Pieces(Protocol):
    """A way through a network.

    Attributes:
        pixels: that may go through at once.
        exact: whether tiles give what the picture in one piece would, or what evaluate measured.
    """

    pixels: int
    exact: bool

    def whole(self, size: Size) -> bool:
        """Whether a picture of (height, width) goes through in one piece."""

    def of(self, picture: np.ndarray, network: Network) -> Iterator[Piece]:
        """The logits of a picture, uint8 (height, width, 3), that goes through in tiles."""


class TrainedTiles:
    """The tiles of the training, see `stages.shared.records.tiles`.

    Args:
        tile: (height, width) of each.
        overlap: of neighbours.
        networks: that a tile goes through at once.
    """

    exact, pixels = True, TILE**2

    def __init__(self, tile: Size, overlap: float, networks: int) -> None:
        self.tile, self.overlap = tile, overlap
        self.at_once = max(1, self.pixels // (tile[0] * tile[1] * networks))

    def whole(self, size: Size) -> bool:
        """See `Pieces`."""
        return size == self.tile

    def of(self, picture: np.ndarray, network: Network) -> Iterator[Piece]:
        """See `Pieces`."""
        remaining = iter(grid(picture.shape[:2], self.tile, self.overlap).tiles)
        frame = padded(picture, self.tile)
        while chosen := list(islice(remaining, self.at_once)):
            seen = np.stack([frame[tile.read] for tile in chosen])
            for tile, logits in zip(chosen, network.predict_on_batch(seen), strict=True):
                yield Piece(tile.kept, logits[tile.inner])


class ExactTiles:
    """Tiles around which as much is read as a network looks at.

    Args:
        tile: side of the largest in pixels.
        margin: read around what is kept of a tile, in pixels.

    Raises:
        UserError: the tile is too small.
    """

    exact = True

    def __init__(self, tile: int, margin: int) -> None:
        self.margin = margin
        self.core = (tile - 2 * margin) // COARSEST_STRIDE * COARSEST_STRIDE
        self.side = self.core + 2 * margin
        self.pixels = self.side**2
        if self.core <= 0:
            raise UserError(
                f"a tile of {tile} pixels is too small: it must cover {margin} pixels to each side "
                f"of what is kept; use {2 * margin + COARSEST_STRIDE} or more"
            )

    def whole(self, size: Size) -> bool:
        """See `Pieces`."""
        return max(size) <= self.side

    def of(self, picture: np.ndarray, network: Network) -> Iterator[Piece]:
        """See `Pieces`."""
        for tile in tiles(picture.shape[:2], self.core, self.margin):
            logits = network.predict_on_batch(picture[tile.read][None])[0]
            yield Piece(tile.kept, logits[tile.inner])


class BlendedTiles(ExactTiles):
    """Tiles that overlap, of which the mean by `window` counts.

    Args:
        tile: side of the largest in pixels.
    """

    exact = False

    def __init__(self, tile: int) -> None:
        super().__init__(tile, BLENDED)

    def of(self, picture: np.ndarray, network: Network) -> Iterator[Piece]:
        """See `Pieces`."""
        size, found = picture.shape[:2], tiles(picture.shape[:2], self.core, self.margin)
        logits, weights = np.zeros((*size, 0), np.float32), np.zeros((*size, 1), np.float32)
        for tile in found:
            share = window(tile, size, self.margin)
            seen = network.predict_on_batch(picture[tile.read][None])[0]
            if not logits.size:
                logits = np.zeros((*size, seen.shape[-1]), np.float32)
            logits[tile.read] += seen * share
            weights[tile.read] += share
        logits /= weights
        yield Piece((slice(size[0]), slice(size[1])), logits)


def window(tile: Tile, size: Size, margin: int) -> np.ndarray:
    """What a tile counts for at each of its pixels, float32 (height, width, 1).

    1 in its middle, falling to 0 over the 2 * `margin` pixels that it shares with a neighbour, but
    not towards the sides of the picture, of (height, width) `size`.
    """
    sides = []
    for part, length in zip(tile.read, size, strict=True):
        places = np.arange(part.start, part.stop) + 0.5
        before = np.inf if part.start == 0 else (places - part.start) / (2 * margin)
        after = np.inf if part.stop == length else (part.stop - places) / (2 * margin)
        sides.append(np.minimum(np.ones_like(places), np.minimum(before, after)))
    rows, columns = sides
    return (rows[:, None] * columns)[..., None].astype(np.float32)


def tiles(size: Size, core: int, margin: int) -> list[Tile]:
    """Tiles that cover a picture.

    Args:
        size: (height, width) of the picture.
        core: side of what is kept of a tile, a multiple of the coarsest stride.
        margin: what is read around it, where there is a picture, a multiple of it too.
    """
    rows, columns = (
        [
            (
                slice(max(start - margin, 0), min(start + core + margin, length)),
                slice(start, min(start + core, length)),
            )
            for start in range(0, length, core)
        ]
        for length in size
    )
    return crossed(rows, columns)
