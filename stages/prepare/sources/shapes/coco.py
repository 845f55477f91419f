"""COCO's JSON, as CVAT, Label Studio and Roboflow write it (cocodataset.org, Data format)."""

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources.files.lists import Called, meant, names
from stages.prepare.sources.files.patterns import Found, normal
from stages.prepare.sources.shapes.annotation import Annotated, Drawing, named, read
from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import Size
from stages.shared.runtime.errors import UserError

Number = int | str
# What the lists of a file hold.
ENTRIES = {"images": "image", "categories": "category", "annotations": "annotation"}


class Image(BaseModel):
    """A picture that a file annotates."""

    id: Number
    file_name: str
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> Size | None:
        """(height, width), if the file tells."""
        return (self.height, self.width) if self.height and self.width else None


class Category(BaseModel):
    """A kind of object."""

    id: Number
    name: str


class RunLengths(BaseModel):
    """A mask: how long its runs of 0 and 1 are, column by column, or these as COCO packs them."""

    size: tuple[int, int]
    counts: list[int] | str


class Annotation(BaseModel):
    """An object of a picture, or a crowd of them."""

    id: Number = "without an id"
    image_id: Number
    category_id: Number
    segmentation: list[list[float]] | RunLengths = Field(default_factory=list)
    iscrowd: int = 0


class File(BaseModel):
    """What a file of annotations holds, as far as it is read."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation]


def annotated(settings: AnnotationsSource, pictures: Found, files: Found) -> Annotated:
    """Read the files of annotations.

    A picture is that of `file_name`, which may begin with other folders than it lies in.

    Raises:
        UserError: names the file, and the picture or annotation at fault.
    """
    called = names(pictures)
    # Another file may have the same number for another category.
    found: set[tuple[bool, Number, str]] = set()
    missing: list[str] = []
    drawings: dict[str, tuple[list[Shape], Size | None]] = {}
    for file in files:
        path = Path(settings.root, file)
        content = load(path, path.stat().st_mtime_ns)
        categories = {category.id: category.name for category in content.categories}
        of_image: dict[Number, list[Shape]] = defaultdict(list)
        for annotation in content.annotations:
            where = f"{file}, annotation {annotation.id}"
            if annotation.category_id not in categories:
                raise UserError(f"{where}: no category has the id {annotation.category_id}")
            name = categories[annotation.category_id]
            found.add((isinstance(annotation.category_id, str), annotation.category_id, name))
            of_image[annotation.image_id].append(shape(annotation, name, where))
        known = {image.id for image in content.images}
        if lost := [number for number in of_image if number not in known]:
            where = of_image[lost[0]][0].where
            raise UserError(f"{where}: no image has the id {lost[0]}")
        for image in content.images:
            picture = picture_of(called, file, image.file_name)
            if picture is None:
                missing.append(image.file_name)
            else:
                drawings.setdefault(picture, ([], image.size))[0].extend(of_image[image.id])
    return Annotated(
        list(dict.fromkeys(name for *_, name in sorted(found))),
        {picture: Drawing(partial(named, own), size) for picture, (own, size) in drawings.items()},
        missing,
    )


@cache
def load(path: Path, changed: int) -> File:
    """A file of annotations; `changed` is when, so that it is read once.

    Raises:
        UserError: it is none; names the annotation at fault.
    """
    try:
        content: Any = json.loads(read(path))
        return File.model_validate(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}, {place(content, first['loc'])}: {first['msg']}; it should be COCO's JSON, "
            "with images, categories and annotations"
        ) from None


def place(content: Any, location: Sequence[int | str]) -> str:
    """Where something is wrong in a file, such as `annotation 7: segmentation`."""
    part, *rest = location or ("it",)
    if not rest:
        return str(part)
    entry = content[part][rest[0]]
    number = entry.get("id", rest[0]) if isinstance(entry, dict) else rest[0]
    key = "".join(f": {key}" for key in rest[1:2])
    return f"{ENTRIES.get(str(part), part)} {number}{key}"


def shape(annotation: Annotation, name: str, where: str) -> Shape:
    """An annotation's; that of a crowd is ignored."""
    own = None if annotation.iscrowd else name
    if isinstance(annotation.segmentation, RunLengths):
        return Shape(where, own, rle=annotation.segmentation.model_dump())
    return Shape(where, own, [np.array(part, np.float64) for part in annotation.segmentation])


def picture_of(called: Called, file: str, name: str) -> str | None:
    """The picture that an annotation file means by a name; None for one that is not there.

    Raises:
        UserError: it means several.
    """
    # Windows' paths, too.
    name = normal(name.replace("\\", "/"))
    beside = str(Path(file).parent / name)
    found = meant(called, beside)
    if len(found) > 1:
        raise UserError(
            f"{file}: {name} may be {' or '.join(sorted(found)[:2])}; name the folder in "
            "file_name, put the file beside its pictures, or narrow dataset.pictures"
        )
    return min(found, default=None)
