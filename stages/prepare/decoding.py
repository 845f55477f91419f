"""A labelled picture: decoded with its mask, its labels translated, fitted to the records' size."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.prepare.settings import MAX_LABEL
from stages.shared.formats.pictures import (
    FORMATS,
    LABELS_16_BIT,
    BadPictureError,
    Greys,
    Size,
    open_image,
    orientation,
    padded,
    resize,
    rgb,
    scaled_size,
    upright,
)
from stages.shared.records.ignore_label import IGNORED

LABELS_8_BIT = ("1", "L", "P")
# How many unnamed labels an error lists, and of how many nobody has drawn them.
MOST_LISTED, SMOOTHED = 8, 100


class Decoded(NamedTuple):
    """A labelled picture.

    Attributes:
        image: uint8 (height, width, 3) RGB.
        mask: of the source's own labels, integer (height, width).
        doubts: what about the files may be a mistake, keys of `facts.DOUBTS`.
    """

    image: np.ndarray
    mask: np.ndarray
    doubts: tuple[str, ...] = ()


class Example(NamedTuple):
    """One labelled picture of a source, not yet decoded.

    Attributes:
        name: names the picture in messages and records; unique within its split.
        decode: returns the picture and its mask. Raises `BadPictureError`.
        mask: the mask's file, if it has one of its own.
        carries: bytes of the picture and the mask, if they are in memory.
    """

    name: str
    decode: Callable[[], Decoded]
    mask: str | None = None
    carries: int = 0


class Labels:
    """What stands in a source's masks, and the classes that it stands for.

    Args:
        names: label to class name, or to None for a label to be ignored. Labels of the same name
            are one class; classes are in the order of their first label.
        colours: the labels are colours, 0xRRGGBB.

    Attributes:
        classes: their names.
    """

    def __init__(self, names: Mapping[int, str | None], colours: bool = False) -> None:
        self.names, self.colours = names, colours
        self.classes = list(dict.fromkeys(name for name in names.values() if name is not None))
        self._table = np.full(1 << 24 if colours else MAX_LABEL + 1, -1, np.int16)
        for label, name in names.items():
            self._table[label] = IGNORED if name is None else self.classes.index(name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without its table, which has an entry for every colour."""
        return Labels, (self.names, self.colours)

    def indices(self, mask: np.ndarray, doubt: str = "") -> np.ndarray:
        """Translate a mask of labels, integer (height, width), to class indices and `IGNORED`.

        Args:
            mask: of labels, integer (height, width).
            doubt: why its labels may not be what was drawn.

        Returns:
            uint8 (height, width).

        Raises:
            BadPictureError: the mask holds a label that has no name.
        """
        indices = self._table[mask]
        if indices.min() < 0:
            unnamed = np.unique(mask[indices < 0]).tolist()
            listed = ", ".join(self._shown(label) for label in unnamed[:MOST_LISTED])
            more = f" and {len(unnamed) - MOST_LISTED} more" if len(unnamed) > MOST_LISTED else ""
            kind = "colours" if self.colours else "labels"
            way_out = "name them in dataset.classes, or list them in dataset.ignore"
            if len(unnamed) > SMOOTHED:
                way_out = "so many come from smoothing: resize masks without, and save them as PNG"
            raise BadPictureError(
                f"the mask holds {kind} without a class: {listed}{more}; {doubt or way_out}"
            )
        return indices.astype(np.uint8)

    def _shown(self, label: int) -> str:
        return f"#{label:06x}" if self.colours else str(label)


def decode_pair(
    image: bytes,
    mask: bytes,
    colours: bool = False,
    turn: bool = False,
    greys: Greys | None = None,
) -> Decoded:
    """Decode a picture and its mask by their content, whatever their names say.

    Args:
        image: as `decode_picture` takes it.
        mask: a grey or palette file whose values are the labels, up to 16 bits; with `colours`, a
            file of any kind whose colours are.
        colours: the mask's colours are its labels, 0xRRGGBB.
        turn: turn both as their EXIF orientations say, but not a picture whose mask fits it only
            unturned.
        greys: of a picture of more than 8 bits, see `pictures.rgb`.

    Raises:
        BadPictureError: one of them does not decode, or their sizes differ.
    """
    opened, opened_mask = open_image(image, "picture"), open_image(mask, "mask")
    jpeg, doubt = "jpeg" if opened_mask.format == "JPEG" else "", ""
    if turn:
        opened, opened_mask, doubt = _turned(opened, opened_mask)
    if opened.size != opened_mask.size:
        sizes = ["{} x {}".format(*picture.size) for picture in (opened_mask, opened)]
        raise BadPictureError(f"the mask is {sizes[0]} pixels, its picture {sizes[1]}")
    labels = values(opened_mask, mask, colours)
    return Decoded(rgb(opened, greys), labels, tuple(filter(None, (jpeg, doubt))))


def values(mask: Image.Image, content: bytes, colours: bool) -> np.ndarray:
    """The labels of an opened mask, integer (height, width), or its colours, 0xRRGGBB.

    Raises:
        BadPictureError: it holds no labels.
    """
    return _packed_colours(mask) if colours else _labels(mask, _highest(content))


def _turned(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image, str]:
    """A picture and its mask as their EXIF orientations say, or as far as that makes them fit, and
    the doubt about that, or nothing."""
    turned, turned_mask = upright(image, "picture"), upright(mask, "mask")
    ways = [
        (turned, turned_mask, ""),
        (image, turned_mask, "unturned"),
        (turned, mask, "stale"),
        (image, mask, "stale"),
    ]
    fitting = [way for way in ways if way[0].size == way[1].size]
    if not fitting:
        return ways[0]
    first, second, doubt = fitting[0]
    alike = orientation(image) == orientation(mask)
    if not doubt and not alike and image.size == turned.size and mask.size == turned_mask.size:
        doubt = "either"
    return first, second, doubt


def _highest(mask: bytes) -> int:
    """The label of a mask's file that Pillow reads as the brightest grey; it scales all to that."""
    # Some formats are decoded by libraries of their own, and have no tiles.
    for codec, _, _, stored in Image.open(io.BytesIO(mask), formats=FORMATS).tile[:1]:
        match codec, stored if isinstance(stored, tuple) else (stored,):
            case "ppm" | "ppm_plain", (_, int(highest)):
                return highest
            case _, (str(kind), *_) if bits := re.match("L;([24])", kind):
                return 2 ** int(bits[1]) - 1
    return 0


def _labels(mask: Image.Image, highest: int) -> np.ndarray:
    """The labels of a mask, of which the brightest was `highest` in its file; 0: as it is read."""
    if mask.mode in LABELS_8_BIT:
        values = np.asarray(mask, dtype=np.uint8)
        return np.rint(values * (highest / 255)).astype(np.uint8) if highest else values
    if mask.mode in LABELS_16_BIT:
        values = np.asarray(mask)
        if values.min() < 0 or values.max() > MAX_LABEL:
            raise BadPictureError(f"the mask holds labels that are not from 0 to {MAX_LABEL}")
        scaled = np.rint(values * (highest / MAX_LABEL)) if highest else values
        return scaled.astype(np.uint16)
    raise BadPictureError(
        f"the mask's pixels are {mask.mode}, not labels of 8 or 16 bits; if its colours stand for "
        "the classes, name them in dataset.classes"
    )


def _packed_colours(mask: Image.Image) -> np.ndarray:
    red, green, blue = np.moveaxis(np.asarray(mask.convert("RGB"), np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def fit(
    image: np.ndarray, mask: np.ndarray, size: Size, mode: str, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a picture and its mask of class indices to `size`, (height, width) in pixels.

    Args:
        image: uint8 (height, width, 3).
        mask: uint8 (height, width).
        size: of the result; with `tiles` the smallest.
        mode: `stretch` each axis on its own; `pad`: keep the aspect, fill the right or the bottom,
            ignored in the mask; `crop`: keep the aspect, cut off what stands out on both sides;
            `tiles`: `scale` it, fill the right or the bottom of a smaller one.
        scale: of `tiles`; None: 1.

    Returns:
        uint8 (height, width, 3) and uint8 (height, width).
    """
    scaled = scaled_size(image.shape[:2], size, mode, scale)
    if mode == "tiles":
        size = max(size[0], scaled[0]), max(size[1], scaled[1])
    image, mask = resize(image, mask, scaled)
    window = tuple(
        slice(start, start + wanted)
        for have, wanted in zip(mask.shape, size, strict=True)
        for start in [max(have - wanted, 0) // 2]
    )
    return padded(image[window], size), padded(mask[window], size, IGNORED)
