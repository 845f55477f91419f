"""Decoding by content, resizing, remapping of labels."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stages.shared import pictures
from stages.shared.pictures import BadPictureError

from .conftest import encoded


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).integers(1, 4, (40, 60), np.uint8)


def test_a_picture_is_read_by_its_content(image: np.ndarray, mask: np.ndarray):
    alpha = np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])
    pixels, labels = pictures.decode_pair(encoded(alpha, "PNG"), encoded(mask, "PNG"))
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(labels, mask)


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "BMP", "PNG"])
def test_every_common_format_becomes_rgb(kind: str, image: np.ndarray, mask: np.ndarray):
    pixels, _ = pictures.decode_pair(encoded(image, kind), encoded(mask, "PNG"))
    assert (pixels.shape, pixels.dtype) == (image.shape, np.uint8)


def test_a_palette_mask_gives_its_indices(image: np.ndarray, mask: np.ndarray):
    palette = Image.fromarray(mask, "P")
    palette.putpalette(range(12))
    file = io.BytesIO()
    palette.save(file, "PNG")
    np.testing.assert_array_equal(
        pictures.decode_pair(encoded(image, "PNG"), file.getvalue())[1], mask
    )


def test_what_does_not_decode_is_named(image: np.ndarray, mask: np.ndarray):
    whole, labels = encoded(image, "PNG"), encoded(mask, "PNG")
    with pytest.raises(BadPictureError, match="the picture is no image"):
        pictures.decode_pair(b"<html>", labels)
    with pytest.raises(BadPictureError, match="the picture does not decode"):
        pictures.decode_pair(whole[: len(whole) // 2], labels)
    with pytest.raises(BadPictureError, match="the mask is no image"):
        pictures.decode_pair(whole, b"")


def test_a_mask_that_does_not_fit_its_picture_is_told_with_both_sizes(image, mask):
    with pytest.raises(BadPictureError, match="mask is 60 x 39 pixels, its picture 60 x 40"):
        pictures.decode_pair(encoded(image, "PNG"), encoded(mask[:-1], "PNG"))


def test_a_colour_mask_is_refused(image: np.ndarray):
    with pytest.raises(BadPictureError, match="the mask's pixels are RGB"):
        pictures.decode_pair(encoded(image, "PNG"), encoded(image, "PNG"))


def test_masks_are_resized_by_nearest_neighbour_and_keep_their_labels(image, mask):
    _, resized = pictures.resize(image, mask, (23, 31))
    rows = ((np.arange(23) + 0.5) * 40 / 23).astype(int)
    columns = ((np.arange(31) + 0.5) * 60 / 31).astype(int)
    np.testing.assert_array_equal(resized, mask[np.ix_(rows, columns)])


@pytest.mark.parametrize("size", [(23, 31), (80, 97), (20, 120)], ids=str)
def test_pictures_are_resized_bilinearly_with_antialiasing(size: tuple[int, int], image, mask):
    resized, _ = pictures.resize(image, mask, size)
    expected = tf.image.resize(image, size, antialias=True).numpy()
    assert np.abs(resized - expected).max() <= 1.01  # Pillow rounds to uint8 after each axis


def test_labels_become_class_indices_in_the_order_of_the_classes():
    table = pictures.label_table({7: "cat", 2: "dog"})
    np.testing.assert_array_equal(pictures.remap(np.uint8([[2, 7, 7]]), table), [[1, 0, 0]])


def test_a_label_without_a_class_is_named():
    table = pictures.label_table({1: "cat", 2: "dog"})
    with pytest.raises(BadPictureError, match=r"labels without a class: \[0, 255\]"):
        pictures.remap(np.uint8([[1, 0, 255]]), table)
