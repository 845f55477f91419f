"""Augmentation: masks move with their pictures, and the seed decides."""

import numpy as np
import pytest

from stages.train import augmentation
from stages.train.augmentation import LUMA, RandomAugmentation
from stages.train.settings import Augmentation

OFF = {"flip": False, "scale": 0.0, "colour": 0.0}


def augment(seed: int = 1, **settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures that show their masks: class 2 white, class 0 black; before and after."""
    masks = np.zeros((6, 48, 64), np.uint8)
    masks[:, 8:30, 6:40] = 2
    pictures = np.repeat(masks[..., None] // 2 * 255, 3, axis=-1)
    changed, moved = RandomAugmentation(Augmentation(**OFF | settings), seed)(pictures, masks)
    return masks, np.array(changed), np.array(moved)


def test_off_changes_nothing():
    masks, pictures, moved = augment()
    np.testing.assert_array_equal(moved, masks)
    np.testing.assert_array_equal(pictures[..., 0], masks // 2 * 255)


def test_a_flip_turns_some_pictures_and_their_masks():
    masks, pictures, moved = augment(flip=True)
    flipped = [np.array_equal(m, before[:, ::-1]) for m, before in zip(moved, masks, strict=True)]
    same = [np.array_equal(m, before) for m, before in zip(moved, masks, strict=True)]
    assert any(flipped)
    assert any(same)
    assert all(f or s for f, s in zip(flipped, same, strict=True))
    np.testing.assert_array_equal(pictures[..., 0] > 127, moved == 2)


def test_a_vertical_flip_turns_some_upside_down_and_with_the_other_some_both_ways():
    masks, _, moved = augment(vertical_flip=True)
    up = [np.array_equal(m, before[::-1]) for m, before in zip(moved, masks, strict=True)]
    same = [np.array_equal(m, before) for m, before in zip(moved, masks, strict=True)]
    assert any(up)
    assert all(u or s for u, s in zip(up, same, strict=True))
    masks, _, moved = augment(flip=True, vertical_flip=True, seed=3)
    shown = {tuple(np.argwhere(m == 2)[0]) for m in moved}
    corners = {tuple(np.argwhere(m == 2)[0]) for m in (masks[0], masks[0, ::-1], masks[0, :, ::-1])}
    assert len(shown) > 2
    assert corners & shown


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotation_by_quarters_is_numpy_s(turns: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (2, 33, 33, 3)).astype(np.uint8)
    masks = rng.integers(0, 9, (2, 33, 33)).astype(np.uint8)
    angle = np.full((2, 1), turns * np.pi / 2, np.float32)
    monkeypatch.setattr(RandomAugmentation, "_uniform", lambda *_: angle)
    layer = RandomAugmentation(Augmentation(**OFF | {"rotation": 180.0}), 1)
    turned, moved = layer(pictures, masks)
    np.testing.assert_allclose(turned, np.rot90(pictures, turns, (1, 2)), atol=0.1)
    np.testing.assert_array_equal(moved, np.rot90(masks, turns, (1, 2)))
    assert np.array(moved).dtype == np.uint8


def test_rotation_moves_labels_with_their_pixels_and_makes_no_new_ones():
    masks, pictures, moved = augment(rotation=30.0)
    assert set(np.unique(moved)) == {0, 2}
    assert ((pictures[..., 0] > 127) == (moved == 2)).mean() > 0.98
    assert len({m.tobytes() for m in moved}) == len(masks)


def test_a_crop_is_a_part_of_the_picture_and_lies_anywhere_in_it():
    """Of pictures whose colours are the rows and columns that they lie at."""
    rows, columns = np.mgrid[:48, :64].astype(np.uint8)
    pictures = np.broadcast_to(np.stack([rows, columns, rows], -1), (64, 48, 64, 3))
    masks = np.broadcast_to(rows // 16, (64, 48, 64))
    layer = RandomAugmentation(Augmentation(**OFF | {"crop": [32, 40]}), 1)
    changed, moved = map(np.array, layer(pictures, masks))
    assert changed.shape == (64, 32, 40, 3)
    assert moved.shape == (64, 32, 40)
    np.testing.assert_allclose(np.diff(changed[..., 0], axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.diff(changed[..., 1], axis=2), 1, atol=1e-3)
    np.testing.assert_array_equal(moved, np.floor(changed[..., 0] + 0.5) // 16)
    for first, spare in ((changed[:, 0, 0, 0], 16), (changed[:, 0, 0, 1], 24)):
        assert first.min() >= 0
        assert first.max() <= spare
        assert first.min() < 0.15 * spare
        assert first.max() > 0.85 * spare


def test_scaling_moves_labels_with_their_pixels_and_makes_no_new_ones():
    masks, pictures, moved = augment(scale=0.3)
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, 2}
    assert ((pictures[..., 0] > 127) == (moved == 2)).mean() > 0.98
    shares = (moved == 2).mean((1, 2))
    assert len(set(shares)) > 3
    assert not np.array_equal(moved, masks)


@pytest.mark.parametrize("zoom", [0.7, 1.3, -1.0])
def test_an_axis_is_read_from_the_picture_reflected_beyond_its_borders(zoom: float):
    """NumPy's padding and interpolation are the oracle."""
    length, shift = 11, 0.13
    values = np.random.default_rng(1).uniform(0, 255, (2, length, 3)).astype(np.float32)
    zooms, shifts = np.full((2, 1), zoom, np.float32), np.full((2, 1), shift, np.float32)
    places = augmentation.source(length, length, zooms, shifts)
    found = np.array(augmentation.resampled(values, places))

    middle = (length - 1) / 2
    wanted = zoom * (np.arange(length) - middle) + middle + length * shift
    padded = np.pad(values, ((0, 0), (length - 1,) * 2, (0, 0)), "reflect")
    for picture, row in zip(padded, found, strict=True):
        for channel in range(3):
            expected = np.interp(wanted + length - 1, np.arange(len(picture)), picture[:, channel])
            np.testing.assert_allclose(row[:, channel], expected, atol=1e-3)
    labels = np.array(augmentation.taken(values, augmentation.nearest(places)))
    distance = np.abs(np.array(places)[0, :, None] - np.arange(length)).argmin(1)
    np.testing.assert_array_equal(labels, values[:, distance])


def test_colour_leaves_masks_alone_and_pictures_in_range():
    masks, pictures, moved = augment(colour=0.5)
    np.testing.assert_array_equal(moved, masks)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 255
    assert not np.array_equal(pictures[..., 0], masks // 2 * 255)


def test_brightness_contrast_and_saturation_change_by_up_to_the_share(monkeypatch):
    """Each by itself, the other two held at nothing."""
    pictures = np.random.default_rng(1).uniform(90, 160, (64, 5, 4, 3)).astype(np.float32)
    masks = np.zeros((64, 5, 4), np.uint8)
    mean = pictures.mean((1, 2, 3), keepdims=True)
    grey = (pictures @ np.array(LUMA, np.float32))[..., None]
    drawn = RandomAugmentation._uniform
    for only, differs in enumerate(
        (
            lambda x: (x - pictures) / 255,
            lambda x: (x - mean) / (pictures - mean) - 1,
            lambda x: (x - grey) / (pictures - grey) - 1,
        )
    ):
        calls = iter(range(3))
        monkeypatch.setattr(
            RandomAugmentation,
            "_uniform",
            lambda self, batch, most, calls=calls, only=only: drawn(
                self, batch, most if next(calls) == only else 0.0
            ),
        )
        changed, _ = RandomAugmentation(Augmentation(**OFF | {"colour": 0.2}), 1)(pictures, masks)
        shares = np.median(differs(np.array(changed)).reshape(64, -1), axis=1)
        assert 0.15 < shares.max() <= 0.2 + 1e-3, only
        assert -0.2 - 1e-3 <= shares.min() < -0.15, only


def test_the_same_seed_gives_the_same_pictures_and_another_does_not():
    settings = {"flip": True, "scale": 0.2, "colour": 0.2}
    first, again, other = (augment(seed, **settings)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_batch_is_changed_anew():
    layer = RandomAugmentation(Augmentation(**OFF | {"colour": 0.2}), 1)
    pictures, masks = np.full((1, 2, 2, 3), 99, np.uint8), np.zeros((1, 2, 2), np.uint8)
    assert not np.array_equal(layer(pictures, masks)[0], layer(pictures, masks)[0])
