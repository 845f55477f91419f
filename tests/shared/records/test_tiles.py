"""Tiles: grids that cover a picture, and what was found on them put together."""

from itertools import pairwise

import numpy as np
import pytest

from stages.shared.records import tiles
from stages.shared.records.ignore_label import IGNORED

SIZES = [(64, 64), (65, 64), (64, 300), (1000, 701), (30, 200), (40, 50)]
OVERLAPS = [0.0, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_pixel_is_kept_from_one_tile(size: tuple[int, int], overlap: float):
    kept = np.zeros(size, int)
    for tile in tiles.grid(size, (64, 48), overlap).tiles:
        kept[tile.kept] += 1
        for read, part in zip(tile.read, tile.kept, strict=True):
            assert read.start <= part.start < part.stop <= read.stop
    assert (kept == 1).all()


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_are_of_one_size_and_overlap_as_far_as_is_asked(size, overlap: float):
    found = tiles.grid(size, (64, 48), overlap).tiles
    for axis, side in enumerate((64, 48)):
        reads = sorted({(tile.read[axis].start, tile.read[axis].stop) for tile in found})
        assert {stop - start for start, stop in reads} == {side}
        assert reads[0][0] == 0
        assert reads[-1][1] == max(size[axis], side)
        shared = [before[1] - after[0] for before, after in pairwise(reads)]
        assert all(overlap * side <= pixels < side for pixels in shared)
        # No more than are needed.
        needed = 1 + max(0, -((side - size[axis]) // max(1, int(side * (1 - overlap)))))
        assert len(reads) == needed


def test_what_is_kept_ends_in_the_middle_of_an_overlap():
    columns = [tile.kept[1] for tile in tiles.grid((64, 112), (64, 64), 0.25).tiles]
    # Columns 48 to 64 are on both.
    assert columns == [slice(0, 56), slice(56, 112)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_tiles_of_a_picture_together_are_the_picture(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    frame = np.zeros((max(size[0], 64), max(size[1], 48), 3), np.uint8)
    frame[: size[0], : size[1]] = picture
    cut = tiles.grid(size, (64, 48), 0.3)
    parts = iter([*(frame[tile.read] for tile in cut.tiles), "the next picture's"])
    np.testing.assert_array_equal(tiles.stitched(parts, cut), picture)
    assert next(parts) == "the next picture's"


def test_a_pixel_of_a_picture_counts_on_one_of_its_tiles():
    mask = np.random.default_rng(0).integers(0, 3, (100, 90), dtype=np.uint8)
    counts = np.zeros(3, int)
    for tile in tiles.grid((100, 90), (64, 64), 0.5).tiles:
        part = mask[tile.read].copy()
        tiles.ignore_shared(part, tile)
        counts += np.bincount(part[part != IGNORED], minlength=3)
    np.testing.assert_array_equal(counts, np.bincount(mask.ravel()))


def test_a_tile_is_named_after_its_picture_and_its_place():
    name = tiles.tile_name("a [1]/b.png", tiles.grid((64, 144), (64, 64), 0.25).tiles[1])
    assert name == "a [1]/b.png [0:64, 40:104]"
    assert tiles.picture_name(name) == "a [1]/b.png"
