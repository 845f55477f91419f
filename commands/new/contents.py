"""What an image file is, by its content: a picture, or a mask; and what stands in masks."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.shared.formats.pictures import FORMATS
from stages.shared.runtime.ordered_map import ordered_map

# A mask is flat: most pixels have the value of the one to their right. Pictures are not, even drawn
# ones, for their outlines are smoothed.
FLAT = 0.85
# Largest number of values that a mask has; more are those of a picture, or of its gradients.
MOST_VALUES = 256
# Of masks that are read for their values; of more, so many are taken at even distances.
MOST_READ = 2000
# Of a class, the share of its pixels beside another class from which it is a border.
BORDER = 0.3


class Kind(Enum):
    """What an image file is."""

    PICTURE = "pictures"
    LABELS = "masks of labels"
    COLOURS = "masks of colours"


class Seen(NamedTuple):
    """An image file.

    Attributes:
        kind: what it is.
        size: (height, width) in pixels.
    """

    kind: Kind
    size: tuple[int, int]


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


def look(path: Path) -> Seen | None:
    """What an image file is; None if it is no image, or a broken one."""
    try:
        with Image.open(path, formats=FORMATS) as opened:
            opened.load()
            size = opened.size[::-1]
            return Seen(_kind(opened), size)
    except Exception:
        # Pillow's readers can raise any exception on a damaged file.
        return None


def _kind(opened: Image.Image) -> Kind:
    if opened.format == "JPEG" or opened.mode not in ("1", "L", "P", "I", "I;16", "RGB", "RGBA"):
        return Kind.PICTURE
    values = packed(opened)
    flat = float((values[:, 1:] == values[:, :-1]).mean()) if values.shape[1] > 1 else 1.0
    if flat < FLAT or len(np.unique(values)) > MOST_VALUES:
        return Kind.PICTURE
    return Kind.COLOURS if opened.mode in ("RGB", "RGBA") else Kind.LABELS


def packed(opened: Image.Image) -> np.ndarray:
    """Labels, or colours as 0xRRGGBB, int32 (height, width)."""
    if opened.mode not in ("RGB", "RGBA"):
        return np.asarray(opened).astype(np.int32)
    red, green, blue = np.moveaxis(np.asarray(opened.convert("RGB"), np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def sample(files: list[Path], most: int) -> list[Path]:
    """So many of the files at most, at even distances."""
    if len(files) <= most:
        return files
    return [files[index] for index in np.linspace(0, len(files) - 1, most).astype(int)]


def values(files: list[Path]) -> Values:
    """What stands in masks; of very many, in a sample."""
    pixels, masks, beside = Counter[int](), Counter[int](), Counter[int]()
    broken, read = [], 0
    taken = sample(files, MOST_READ)
    for path, found in zip(taken, ordered_map(_counted, taken), strict=True):
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


def _counted(path: Path) -> list[tuple[int, int, int]] | None:
    """Of each label of a mask: it, its pixels, and those of them that lie beside another."""
    try:
        with Image.open(path, formats=FORMATS) as opened:
            labels = packed(opened)
    except Exception:
        return None
    beside = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        changes = np.diff(labels, axis=axis) != 0
        for padding in ((0, 1), (1, 0)):
            beside |= np.pad(changes, [padding if axis == a else (0, 0) for a in (0, 1)])
    found, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    at_border = np.bincount(inverse.ravel(), weights=beside.ravel(), minlength=len(found))
    return list(zip(found.tolist(), counts.tolist(), at_border.astype(int).tolist(), strict=True))


def sizes(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """(height, width) of pictures, by their files' heads."""
    for path in files:
        try:
            with Image.open(path, formats=FORMATS) as opened:
                yield opened.size[::-1]
        except Exception:
            continue
