"""LabelMe's JSON: a file for each picture."""

import base64
import io
import json
import math
from collections.abc import Container
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco
from pydantic import BaseModel, Field, ValidationError

from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources.files.patterns import Found, partners
from stages.prepare.sources.shapes.annotation import Annotated, Drawing, read
from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import BadPictureError, Size
from stages.shared.runtime.errors import UserError

# Corners of the polygon that stands for a circle.
CORNERS = 64


class Given(BaseModel):
    """A shape of a file; `mask` is a PNG, in base 64."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class File(BaseModel):
    """What a file holds, as far as it is read."""

    shapes: list[Given]
    height: int = Field(alias="imageHeight", gt=0)
    width: int = Field(alias="imageWidth", gt=0)


def annotated(settings: AnnotationsSource, pictures: Found, files: Found) -> Annotated:
    """Read each picture's file, which has its stem.

    Raises:
        UserError: names a file that is no LabelMe's, and its shape at fault.
    """
    names: set[str] = set()
    drawings = {}
    file_of = partners(settings.pictures, settings.annotations, pictures, files)
    for picture, file in file_of.items():
        path = Path(settings.root, file)
        content = load(path, path.stat().st_mtime_ns)
        names |= {shape.label for shape in content.shapes}
        size = content.height, content.width
        drawings[picture] = Drawing(partial(shapes, file, content.shapes, size), size)
    return Annotated(sorted(names), drawings)


@cache
def load(path: Path, changed: int) -> File:
    """The content of a file; `changed` is when, so that it is read once.

    Raises:
        UserError: names the shape at fault.
    """
    try:
        return File.model_validate(json.loads(read(path)))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        part, *rest = first["loc"] or ("it",)
        where = f"shape {int(rest[0]) + 1}" if rest else part
        raise UserError(
            f"{path}, {where}: {first['msg']}; it should be LabelMe's JSON, with shapes, "
            "imageHeight and imageWidth"
        ) from None


def shapes(file: str, given: list[Given], size: Size, wanted: Container[str | None]) -> list[Shape]:
    """The shapes of a file that have one of the wanted names.

    Raises:
        BadPictureError: names the shape at fault.
    """
    found = []
    for number, shape in enumerate(given, start=1):
        if shape.label not in wanted:
            continue
        where, kind = f"{file}, shape {number}", shape.shape_type or "polygon"
        if kind not in OUTLINES:
            raise BadPictureError(f"{where}: a {kind} has no area; known are {', '.join(OUTLINES)}")
        try:
            outline = OUTLINES[kind](shape, np.array(shape.points, float).reshape(-1, 2), size)
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            raise BadPictureError(f"{where}: it is no {kind}: {error}") from None
        found.append(Shape(where, shape.label, **outline))
    return found


def polygon(shape: Given, points: np.ndarray, size: Size) -> dict[str, Any]:
    """Its points, (corners, 2)."""
    return {"polygons": [points.ravel()]}


def rectangle(shape: Given, points: np.ndarray, size: Size) -> dict[str, Any]:
    """Of two corners or of four."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return {"polygons": [np.array([left, top, right, top, right, bottom, left, bottom])]}


def circle(shape: Given, points: np.ndarray, size: Size) -> dict[str, Any]:
    """Of its centre and a point on it."""
    centre, edge = points
    angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return {"polygons": [(centre + math.dist(centre, edge) * ring).ravel()]}


def mask(shape: Given, points: np.ndarray, size: Size) -> dict[str, Any]:
    """A PNG that lies at the first of two corners."""
    png = base64.b64decode(shape.mask or "")
    own = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])) > 0
    left, top = np.round(points.min(axis=0)).astype(int)
    whole = Image.new("L", size[::-1])
    # What stands out is cut off.
    whole.paste(Image.fromarray(own), (int(left), int(top)))
    encoded = coco.encode(np.asfortranarray(whole, np.uint8) > 0)
    return {"rle": {"size": list(size), "counts": encoded["counts"].decode()}}


OUTLINES = {"polygon": polygon, "rectangle": rectangle, "circle": circle, "mask": mask}
