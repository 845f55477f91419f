"""Annotated shapes, painted into a mask as pycocotools, COCO's own code, rasterises them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from stages.shared.formats.pictures import BadPictureError, Size

# Numbers of the smallest polygon: pycocotools takes four for a box.
TRIANGLE = 6
# Of a run length.
MOST_BITS = 60
# How many times its picture's larger side a shape may be away: what is rasterised grows with it.
FAR = 10


class Shape(NamedTuple):
    """An annotated object of a picture.

    Attributes:
        where: it stands, for messages.
        name: of its category; None: what it covers is ignored.
        polygons: float64 (x, y, x, y, ...) in pixels, or as shares of the picture; together they
            are the object.
        rle: COCO's run lengths instead, `{"size": [height, width], "counts": ...}`.
        relative: whether the polygons are in shares of the picture.
    """

    where: str
    name: str | None
    polygons: Sequence[np.ndarray] = ()
    rle: Mapping[str, Any] | None = None
    relative: bool = False


def paint(shapes: Sequence[Shape], size: Size, labels: Mapping[str | None, int]) -> np.ndarray:
    """A mask of labels, uint16 (height, width); 0 where no shape is.

    What is ignored lies below all objects; of objects that overlap, the smaller lies on top.

    Args:
        shapes: of the picture.
        size: (height, width) of it.
        labels: of the shapes' names.

    Raises:
        BadPictureError: names a shape that is none.
    """
    mask = np.zeros(size, np.uint16)
    regions = [(region(shape, size), shape.name) for shape in shapes]
    for found, name in sorted(regions, key=lambda r: (r[1] is not None, -int(coco.area(r[0])))):
        # One at a time: a picture may have hundreds.
        mask[coco.decode(found).astype(bool)] = labels[name]
    return mask


def region(shape: Shape, size: Size) -> Any:
    """The pixels of a shape, in pycocotools' run lengths.

    Raises:
        BadPictureError: names a shape that is none.
    """
    height, width = size
    try:
        if shape.rle is not None:
            return _run_lengths(shape.rle, size)
        return coco.merge(coco.frPyObjects(_outlines(shape, size), height, width))
    except (ValueError, TypeError, KeyError) as error:
        raise BadPictureError(f"{shape.where}: {error}") from None


def _outlines(shape: Shape, size: Size) -> list[list[float]]:
    """Polygons in pixels; what stands out of the picture is cut off when they are rasterised."""
    height, width = size
    far = 2 if shape.relative else FAR * max(size)
    outlines = []
    for polygon in shape.polygons:
        if len(polygon) < TRIANGLE or len(polygon) % 2:
            raise ValueError(
                f"a polygon of {len(polygon)} numbers; it should have an x and a y "
                "for three points or more"
            )
        if not np.isfinite(polygon).all():
            raise ValueError("a coordinate is not a finite number")
        if np.abs(polygon).max() > far:
            kind = "a share of the picture" if shape.relative else "a place in the picture"
            raise ValueError(f"the coordinate {np.abs(polygon).max():g} is not {kind}")
        points = polygon.reshape(-1, 2) * ((width, height) if shape.relative else 1)
        outlines.append(points.ravel().tolist())
    if not outlines:
        raise ValueError("it has no outline")
    return outlines


def _run_lengths(rle: Mapping[str, Any], size: Size) -> Mapping[str, Any]:
    """COCO's run lengths, as pycocotools takes them.

    Raises:
        ValueError: they are of another size than the picture.
    """
    height, width = size
    given, counts = list(rle["size"]), rle["counts"]
    if given != [height, width]:
        raise ValueError(f"its run lengths are of {given}, its picture is {[height, width]}")
    lengths = unpacked(counts) if isinstance(counts, str) else list(counts)
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise ValueError(f"its run lengths add up to {sum(lengths)}, not {height} x {width}")
    return coco.frPyObjects({"size": given, "counts": lengths}, height, width)


def unpacked(counts: str) -> list[int]:
    """Run lengths from the text that COCO packs them into: five bits a letter, the lowest first,
    and from the fourth length on the difference to the last but one (maskApi.c, rleFrString)."""
    lengths: list[int] = []
    number = bits = 0
    for letter in counts.encode():
        if bits > MOST_BITS:
            raise ValueError("its run lengths are damaged")
        part = letter - 48
        number |= (part & 31) << bits
        bits += 5
        if part & 32:
            continue
        if part & 16:
            number -= 1 << bits
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = bits = 0
    return lengths
