"""LabelMe's JSON: a file for each picture."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources.files.patterns import Found, keys
from stages.prepare.sources.shapes.annotation import Annotated, Drawing, read
from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import Size
from stages.shared.runtime.errors import UserError

# Corners of the polygon that stands for a circle.
CORNERS = 64


def annotated(settings: AnnotationsSource, pictures: Found, files: Sequence[str]) -> Annotated:
    """Read each picture's file, which has its stem.

    Raises:
        UserError: names a file that is no LabelMe's, and its shape at fault.
    """
    found = dict.fromkeys(files, settings.annotations)
    of_pictures, of_files = keys(settings.pictures, settings.annotations, pictures, found)
    by_key = {key: file for file, key in of_files.items()}
    names: set[str] = set()
    own = {}
    for picture, key in of_pictures.items():
        if key in by_key:
            shapes, size = load(Path(settings.root), by_key[key])
            names |= {shape.name for shape in shapes if shape.name}
            own[picture] = Drawing(partial(list, shapes), size)
    return Annotated(sorted(names), own)


def load(root: Path, file: str) -> tuple[list[Shape], Size]:
    """The shapes of a file, and the (height, width) of its picture.

    Raises:
        UserError: names the shape at fault.
    """
    try:
        content = json.loads(read(root / file))
        shapes = content["shapes"]
        size = int(content["imageHeight"]), int(content["imageWidth"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{root / file} is no JSON of LabelMe: {error!r}") from None
    found = []
    for number, given in enumerate(shapes, start=1):
        where = f"{file}, shape {number}"
        try:
            kind, points = given.get("shape_type") or "polygon", np.array(given["points"], float)
            outline = OUTLINES[kind](given, points, size)
            found.append(Shape(where, str(given["label"]), **outline))
        except KeyError as error:
            raise UserError(
                f"{root / file}, shape {number}: {error} is not known; a shape should have a "
                f"label, points, and one of these types: {', '.join(OUTLINES)}"
            ) from None
        except (ValueError, TypeError, OSError) as error:
            raise UserError(f"{root / file}, shape {number}: {error}") from None
    return found, size


def polygon(given: Mapping[str, Any], points: np.ndarray, size: Size) -> dict[str, Any]:
    """Its points, (corners, 2)."""
    return {"polygons": [points.ravel()]}


def rectangle(given: Mapping[str, Any], points: np.ndarray, size: Size) -> dict[str, Any]:
    """Of two corners."""
    (left, top), (right, bottom) = points
    return {"polygons": [np.array([left, top, right, top, right, bottom, left, bottom])]}


def circle(given: Mapping[str, Any], points: np.ndarray, size: Size) -> dict[str, Any]:
    """Of its centre and a point on it."""
    centre, edge = points
    angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return {"polygons": [(centre + math.dist(centre, edge) * ring).ravel()]}


def mask(given: Mapping[str, Any], points: np.ndarray, size: Size) -> dict[str, Any]:
    """A PNG that lies at the first of two corners."""
    own = np.asarray(Image.open(io.BytesIO(base64.b64decode(given["mask"])), formats=["PNG"])) > 0
    whole = np.zeros(size, np.uint8, order="F")
    left, top = np.round(points[0]).astype(int)
    high, wide = whole[top:, left:].shape
    whole[top : top + own.shape[0], left : left + own.shape[1]] = own[:high, :wide]
    encoded = coco.encode(whole)
    return {"rle": {"size": list(size), "counts": encoded["counts"].decode()}}


OUTLINES = {"polygon": polygon, "rectangle": rectangle, "circle": circle, "mask": mask}
