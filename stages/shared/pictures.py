"""Decoding and resizing of one picture and its mask, with Pillow.

Pillow resizes in fixed-point arithmetic and lets go of the GIL, so the result does not depend on
the processor and a pool of threads uses all cores.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.shared.dataset import IGNORED

# Labels are stored as uint8.
MAX_LABELS = 256


class BadPictureError(Exception):
    """A picture or a mask that can't be used; its text says why, without naming the picture."""


class Example(NamedTuple):
    """One labelled picture of a source, not yet decoded.

    Attributes:
        name: names the picture in messages and records; unique within its split.
        decode: returns the picture, uint8 (height, width, 3) RGB, and its mask of the source's own
            labels, integer (height, width). Raises `BadPictureError`.
    """

    name: str
    decode: Callable[[], tuple[np.ndarray, np.ndarray]]


def decode_pair(image: bytes, mask: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode a picture and its mask by their content, whatever their names say.

    Args:
        image: a file of any format that Pillow reads; palettes and alpha become plain RGB.
        mask: a grey or palette file whose values are the labels.

    Returns:
        uint8 (height, width, 3) and uint8 (height, width).

    Raises:
        BadPictureError: one of them does not decode, or their sizes differ.
    """
    pixels = np.asarray(_open(image, "picture").convert("RGB"))
    opened = _open(mask, "mask")
    if opened.mode not in ("L", "P", "1"):
        raise BadPictureError(f"the mask's pixels are {opened.mode}, not 8-bit labels")
    labels = np.asarray(opened, dtype=np.uint8)
    if labels.shape != pixels.shape[:2]:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (labels.shape, pixels.shape)]
        raise BadPictureError(f"the mask is {sizes[0]} pixels, its picture {sizes[1]}")
    return pixels, labels


def _open(content: bytes, what: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UnidentifiedImageError:
        raise BadPictureError(f"the {what} is no image of any known format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadPictureError(f"the {what} does not decode: {error}") from None
    return image


def resize(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch a picture and its mask to `size`, (height, width) in pixels.

    The picture is resized bilinearly, over the whole footprint of a pixel when it shrinks
    (antialiasing); the mask takes the label nearest to each pixel's centre, so no label arises
    that was not there.

    Returns:
        uint8 (height, width, 3) and uint8 (height, width).
    """
    height, width = size
    bilinear, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
    resized = Image.fromarray(image).resize((width, height), bilinear)
    labels = Image.fromarray(mask).resize((width, height), nearest)
    return np.asarray(resized), np.asarray(labels)


def label_table(labels: Mapping[int, str], ignored: Iterable[int] = ()) -> np.ndarray:
    """A table from a source's labels to 0..N-1 in the mapping's order, to `IGNORED` for those to
    be ignored, and to -1 for labels unnamed."""
    table = np.full(MAX_LABELS, -1, dtype=np.int16)
    table[list(labels)] = np.arange(len(labels))
    table[list(ignored)] = IGNORED
    return table


def remap(mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Translate a mask, uint8 (height, width), by `table` (see `label_table`), to uint8.

    Raises:
        BadPictureError: the mask holds a label that the table has no class for.
    """
    indices = table[mask]
    if indices.min() < 0:
        unnamed = sorted(set(mask[indices < 0].tolist()))
        raise BadPictureError(f"the mask holds labels without a class: {unnamed}")
    return indices.astype(np.uint8)
