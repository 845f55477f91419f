"""What an image file is, by its content: a picture, or a mask; and what stands in masks."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.prepare import decoding
from stages.shared.formats.pictures import (
    DEEP_PICTURES,
    FORMATS,
    LABELS_16_BIT,
    BadPictureError,
    open_image,
    orientation,
)
from stages.shared.runtime.ordered_map import ordered_map

# A mask is flat: most pixels have the value of the one to their right. Pictures are not, even drawn
# ones, for their outlines are smoothed.
FLAT = 0.85
# Largest number of values that a mask has; more are those of a picture, or of its gradients.
MOST_VALUES = 256
# Pillow's modes of masks.
COLOURS, LABELS = ("RGB", "RGBA"), (*decoding.LABELS_8_BIT, *LABELS_16_BIT)
# Of EXIF's orientations, those of pictures that are stored lying.
ON_THEIR_SIDE = (5, 6, 7, 8)
# Of masks that are read for their values; of more, so many are taken at even distances.
MOST_READ = 2000
# Of the values of deep pictures, the share that is darker than black, and brighter than white.
BEYOND = 0.001
# IoU of a value in two masks, above which they are not of the pictures' content.
SAME = 0.9
# Of a class, the share of its pixels beside another class from which it is a border.
BORDER = 0.3


class Kind(Enum):
    """What an image file is."""

    PICTURE = "pictures"
    LABELS = "masks of labels"
    COLOURS = "masks of colours"


class Values(NamedTuple):
    """What stands in some masks.

    Attributes:
        pixels: of each label or colour (0xRRGGBB), in all of them.
        masks: of each, in how many it occurs.
        borders: of each, the share of its pixels that lie beside another.
        read: number of masks.
        of: number of all masks.
        broken: files that do not decode.
    """

    pixels: dict[int, int]
    masks: dict[int, int]
    borders: dict[int, float]
    read: int
    of: int
    broken: list[Path]


def look(path: Path) -> Kind | None:
    """What an image file is; None if it is no image, or a broken one."""
    try:
        content = path.read_bytes()
        return _kind(open_image(content, "mask"), content)
    except (OSError, BadPictureError):
        return None


def _kind(opened: Image.Image, content: bytes) -> Kind:
    colours = opened.mode in COLOURS
    if opened.format == "JPEG" or not (colours or opened.mode in LABELS):
        return Kind.PICTURE
    found = decoding.values(opened, content, colours)
    flat = float((found[:, 1:] == found[:, :-1]).mean()) if found.shape[1] > 1 else 1.0
    if flat < FLAT or len(np.unique(found)) > MOST_VALUES:
        return Kind.PICTURE
    return Kind.COLOURS if colours else Kind.LABELS


def alike(masks: list[Path]) -> bool:
    """Whether each value of some masks lies at nearly the same pixels in all of them."""
    values = []
    for path in masks:
        try:
            with Image.open(path, formats=FORMATS) as opened:
                values.append(np.asarray(opened))
        except Exception:
            # Pillow's readers can raise any exception on a damaged file.
            continue
    if len(values) < 2 or len({each.shape for each in values}) > 1:
        return False
    first, *others = values
    return all(iou(first == v, other == v) > SAME for other in others for v in np.unique(first))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two areas, bool (height, width); the first is not empty."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def sample(files: list[Path], most: int) -> list[Path]:
    """So many of the files at most, at even distances."""
    if len(files) <= most:
        return files
    return [files[index] for index in np.linspace(0, len(files) - 1, most).astype(int)]


def values(files: list[Path], kind: Kind) -> Values:
    """What stands in masks; of very many, in a sample."""
    pixels, masks, beside = Counter[int](), Counter[int](), Counter[int]()
    broken, read = [], 0
    taken = sample(files, MOST_READ)
    for path, found in zip(
        taken, ordered_map(partial(_counted, kind is Kind.COLOURS), taken), strict=True
    ):
        if found is None:
            broken.append(path)
            continue
        read += 1
        for label, count, at_border in found:
            pixels[label] += count
            masks[label] += 1
            beside[label] += at_border
    borders = {label: beside[label] / pixels[label] for label in pixels}
    return Values(dict(sorted(pixels.items())), dict(masks), borders, read, len(files), broken)


def _counted(colours: bool, path: Path) -> list[tuple[int, int, int]] | None:
    """Of each label of a mask: it, its pixels, and those of them that lie beside another."""
    try:
        content = path.read_bytes()
        labels = decoding.values(open_image(content, "mask"), content, colours)
    except (OSError, BadPictureError):
        return None
    beside = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        changes = np.diff(labels, axis=axis) != 0
        for padding in ((0, 1), (1, 0)):
            beside |= np.pad(changes, [padding if axis == a else (0, 0) for a in (0, 1)])
    found, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    at_border = np.bincount(inverse.ravel(), weights=beside.ravel(), minlength=len(found))
    return list(zip(found.tolist(), counts.tolist(), at_border.astype(int).tolist(), strict=True))


def greys(files: Iterable[Path]) -> list[float] | None:
    """Black and white of pictures of more than 8 bits; None if none of them is."""
    ranges = []
    for path in files:
        try:
            with Image.open(path, formats=FORMATS) as opened:
                if opened.mode in DEEP_PICTURES:
                    pixels = np.asarray(opened, np.float64)
                    if np.isfinite(pixels).any():
                        finite = pixels[np.isfinite(pixels)]
                        ranges.append(np.quantile(finite, (BEYOND, 1 - BEYOND)))
        except Exception:
            # Pillow's readers can raise any exception on a damaged file.
            continue
    if not ranges:
        return None
    blacks, whites = zip(*ranges, strict=True)
    black, white = min(blacks), max(whites)
    # Of integers, or of floats from 0 to 1.
    rounded = [float(f"{value:.3g}") for value in (black, white)]
    if rounded[0] == rounded[1]:
        return None
    return [int(value) if value.is_integer() else value for value in rounded]


def sizes(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """(height, width) of pictures as a viewer shows them, by their files' heads."""
    for path in files:
        try:
            with Image.open(path, formats=FORMATS) as opened:
                turned = orientation(opened) in ON_THEIR_SIDE
                yield opened.size if turned else opened.size[::-1]
        except Exception:
            # Pillow's readers can raise any exception on a damaged file.
            continue
