"""Decoding by content, fitting to the records' size, naming of labels."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stages.prepare.decoding import Labels, decode_pair, fit
from stages.shared.formats import pictures
from stages.shared.formats.pictures import BadPictureError, decode_picture
from stages.shared.records.ignore_label import IGNORED
from tests.conftest import encoded


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).integers(1, 4, (40, 60), np.uint8)


def test_a_picture_is_read_by_its_content(image: np.ndarray, mask: np.ndarray):
    alpha = np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])
    pixels, labels, _ = decode_pair(encoded(alpha, "PNG"), encoded(mask, "PNG"))
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(labels, mask)


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "BMP", "PNG"])
def test_every_common_format_becomes_rgb(kind: str, image: np.ndarray, mask: np.ndarray):
    pixels, *_ = decode_pair(encoded(image, kind), encoded(mask, "PNG"))
    assert (pixels.shape, pixels.dtype) == (image.shape, np.uint8)


def test_a_palette_mask_gives_its_indices(image: np.ndarray, mask: np.ndarray):
    palette = Image.fromarray(mask, "P")
    palette.putpalette(range(12))
    file = io.BytesIO()
    palette.save(file, "PNG")
    np.testing.assert_array_equal(decode_pair(encoded(image, "PNG"), file.getvalue())[1], mask)


def png_of_bits(labels: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits a pixel (PNG specification, section 7.2), of whole bytes a row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        content = kind + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    height, width = labels.shape
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (labels.reshape(height, -1, 8 // bits) << shifts).sum(-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_of_2_and_4_bits_are_what_the_file_holds(bits: int, image: np.ndarray):
    labels = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 2**bits
    found = decode_pair(encoded(image, "PNG"), png_of_bits(labels, bits)).mask
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("highest", [3, 20, 255, 1000, 65535])
@pytest.mark.parametrize("plain", [True, False])
def test_labels_of_a_pgm_are_what_the_file_holds(highest: int, plain: bool, image: np.ndarray):
    labels = np.arange(40 * 60).reshape(40, 60) % (highest + 1)
    head = f"P{2 if plain else 5}\n60 40\n{highest}\n".encode()
    if plain:
        pixels = " ".join(map(str, labels.ravel())).encode()
    else:
        pixels = labels.astype(">u2" if highest > 255 else "u1").tobytes()
    found = decode_pair(encoded(image, "PNG"), head + pixels).mask
    np.testing.assert_array_equal(found, labels)


def test_a_mask_of_a_format_without_grey_is_refused_in_a_sentence(image: np.ndarray):
    with pytest.raises(BadPictureError, match="the mask's pixels are RGB, not labels"):
        decode_pair(encoded(image, "PNG"), encoded(image, "WEBP"))


@pytest.mark.parametrize("damaged", ["picture", "mask"])
def test_damaged_exif_is_named(damaged: str, image: np.ndarray, mask: np.ndarray):
    files = {}
    for what, pixels in (("picture", image), ("mask", mask)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", exif=b"garbage" if what == damaged else b"")
        files[what] = file.getvalue()
    with pytest.raises(BadPictureError, match=f"the EXIF data of the {damaged} is damaged"):
        decode_pair(files["picture"], files["mask"], turn=True)
    if damaged == "picture":
        with pytest.raises(BadPictureError, match="the EXIF data of the picture is damaged"):
            pictures.decode_picture(files["picture"])


def test_what_does_not_decode_is_named(image: np.ndarray, mask: np.ndarray):
    whole, labels = encoded(image, "PNG"), encoded(mask, "PNG")
    with pytest.raises(BadPictureError, match="the picture is not an image in a known format"):
        decode_pair(b"<html>", labels)
    with pytest.raises(BadPictureError, match="the picture does not decode"):
        decode_pair(whole[: len(whole) // 2], labels)
    with pytest.raises(BadPictureError, match="the mask is not an image in a known format"):
        decode_pair(whole, b"")


def test_a_mask_that_does_not_fit_its_picture_is_told_with_both_sizes(image, mask):
    with pytest.raises(BadPictureError, match="mask is 60 x 39 pixels, its picture 60 x 40"):
        decode_pair(encoded(image, "PNG"), encoded(mask[:-1], "PNG"))


def test_a_colour_mask_is_refused(image: np.ndarray):
    with pytest.raises(BadPictureError, match="the mask's pixels are RGB"):
        decode_pair(encoded(image, "PNG"), encoded(image, "PNG"))


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


def test_stretching_fills_the_frame(image, mask):
    found = fit(image, mask, (50, 70), "stretch")
    for fitted, expected in zip(found, pictures.resize(image, mask, (50, 70)), strict=True):
        np.testing.assert_array_equal(fitted, expected)


@pytest.mark.parametrize("size", [(50, 50), (30, 90), (80, 32)], ids=str)
def test_padding_keeps_the_aspect_and_ignores_the_border(size: tuple[int, int], image, mask):
    padded, labels = fit(image, mask, size, "pad")
    assert (padded.shape, labels.shape) == ((*size, 3), size)
    scale = min(size[0] / 40, size[1] / 60)
    height, width = round(40 * scale), round(60 * scale)
    assert height == size[0] or width == size[1]
    expected = pictures.resize(image, mask, (height, width))
    np.testing.assert_array_equal(padded[:height, :width], expected[0])
    np.testing.assert_array_equal(labels[:height, :width], expected[1])
    counted = np.zeros(size, bool)
    counted[:height, :width] = True
    assert (labels[~counted] == IGNORED).all()
    assert len(np.unique(padded[~counted], axis=0)) == 1


@pytest.mark.parametrize("size", [(50, 50), (30, 90), (80, 32)], ids=str)
def test_cropping_keeps_the_aspect_and_the_middle(size: tuple[int, int], image, mask):
    cropped, labels = fit(image, mask, size, "crop")
    scale = max(size[0] / 40, size[1] / 60)
    height, width = round(40 * scale), round(60 * scale)
    whole = pictures.resize(image, mask, (height, width))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    window = np.s_[top : top + size[0], left : left + size[1]]
    np.testing.assert_array_equal(cropped, whole[0][window])
    np.testing.assert_array_equal(labels, whole[1][window])
    assert IGNORED not in labels


def test_labels_become_class_indices_in_the_order_of_the_classes():
    labels = Labels({7: "cat", 2: "dog", 9: None})
    assert labels.classes == ["cat", "dog"]
    np.testing.assert_array_equal(labels.indices(np.uint8([[2, 7, 9]])), [[1, 0, IGNORED]])


def test_labels_without_a_class_are_named():
    with pytest.raises(BadPictureError, match=r"labels without a class: 0, 255; name them in data"):
        Labels({1: "cat", 2: "dog"}).indices(np.uint8([[1, 0, 255]]))
    with pytest.raises(BadPictureError, match=r"class: 3, 4, 5, 6, 7, 8, 9, 10 and 2 more; name"):
        Labels({1: "cat", 2: "dog"}).indices(np.arange(1, 13, dtype=np.uint16)[None])


def test_a_picture_of_more_than_8_bits_is_scaled_between_black_and_white():
    values = np.array([[0, 1000, 2000], [3000, 5000, 65535]], np.uint16)
    seen = decode_picture(encoded(values, "PNG"), (1000, 5000))
    shares = (values.astype(float) - 1000) / 4000
    grey = np.rint(255 * shares.clip(0, 1)).astype(np.uint8)
    np.testing.assert_array_equal(seen, np.stack([grey] * 3, axis=-1))


def test_floats_are_scaled_likewise_and_what_is_no_number_is_black():
    values = np.array([[-1.0, 0.0, 0.5], [1.0, 2.0, np.nan]], np.float32)
    seen = decode_picture(encoded(values, "TIFF"), (0, 1))[..., 0]
    np.testing.assert_array_equal(seen, [[0, 0, 128], [255, 255, 0]])


def test_a_picture_of_8_bits_is_taken_as_it_is(image: np.ndarray):
    seen = decode_picture(encoded(image, "PNG"), (1000, 5000))
    np.testing.assert_array_equal(seen, image)
