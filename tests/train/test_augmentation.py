"""Augmentation: masks move with their pictures, and the seed decides."""

import keras
import numpy as np
import pytest

from stages.train.augmentation import RandomAugmentation
from stages.train.settings import Augmentation

OFF = {"flip": False, "scale": 0.0, "colour": 0.0}


def augment(seed=(1, 2, 3), **settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures that show their masks: class 2 white, class 0 black; before and after."""
    masks = np.zeros((6, 48, 64), np.uint8)
    masks[:, 8:30, 6:40] = 2
    pictures = np.repeat(masks[..., None] // 2 * 255, 3, axis=-1)
    return masks, *RandomAugmentation(Augmentation(**OFF | settings))(pictures, masks, seed)


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


def test_scaling_moves_labels_with_their_pixels_and_makes_no_new_ones():
    masks, pictures, moved = augment(scale=0.3)
    assert set(np.unique(moved)) == {0, 2}
    assert ((pictures[..., 0] > 127) == (moved == 2)).mean() > 0.98
    shares = (moved == 2).mean((1, 2))
    assert len(set(shares)) > 3
    assert not np.array_equal(moved, masks)


def test_colour_leaves_masks_alone_and_pictures_in_range():
    masks, pictures, moved = augment(colour=0.5)
    np.testing.assert_array_equal(moved, masks)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 255
    assert not np.array_equal(pictures[..., 0], masks // 2 * 255)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_saturation_changes_by_up_to_the_share_of_itself(share: float):
    hsv = np.full((64, 2, 2, 3), (0.3, 0.4, 0.5), np.float32)
    pictures = (keras.ops.image.hsv_to_rgb(hsv) * 255).numpy().astype(np.uint8)
    layer = RandomAugmentation(Augmentation(**OFF | {"colour": share})).layers[-1]
    seeds = keras.random.SeedGenerator(1)
    change = layer.get_random_transformation(pictures, training=True, seed=seeds)
    factors = keras.ops.convert_to_numpy(change["factor"]).ravel()
    assert factors.min() >= 1 - share - 1e-5
    assert factors.max() <= 1 + share + 1e-5
    assert factors.max() - factors.min() > share


@pytest.mark.parametrize("settings", [{"flip": True, "scale": 0.2, "colour": 0.2}])
def test_the_same_seed_gives_the_same_pictures_and_another_does_not(settings):
    first, again, other = (augment(seed, **settings)[1] for seed in ((1, 0), (1, 0), (1, 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
