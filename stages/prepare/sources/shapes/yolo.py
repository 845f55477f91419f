"""YOLO's polygons: a text file for each picture, a line for each object, and names in YAML."""

from collections.abc import Container, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources.files.patterns import Found, partners
from stages.prepare.sources.shapes.annotation import Annotated, Drawing, named, read
from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import BadPictureError
from stages.shared.runtime.errors import UserError

# Numbers of a line that is a box: its class, centre, width and height.
BOX = 5
NAMES: TypeAdapter[list[str] | dict[int, str]] = TypeAdapter(list[str] | dict[int, str])


def annotated(settings: AnnotationsSource, pictures: Found, files: Found) -> Annotated:
    """Find each picture's file, which has its stem; a picture without one shows no object.

    Raises:
        UserError: there are no names, or two files are of one picture.
    """
    root, names = Path(settings.root), names_of(Path(settings.root))
    file_of = partners(settings.pictures, settings.annotations, pictures, files)
    if not file_of:
        raise UserError(
            f"no picture of {settings.pictures} has annotations: none of {settings.annotations} "
            "has its stem"
        )
    return Annotated(
        list(dict.fromkeys(names.values())),
        {
            picture: Drawing(partial(shapes, root, file_of.get(picture), names))
            for picture in pictures
        },
    )


def names_of(root: Path) -> dict[int, str]:
    """The categories' names by their numbers, from the one YAML file that has them.

    Raises:
        UserError: there is none, there are several, or it does not name them.
    """
    found = {}
    for path in sorted([*root.rglob("*.yaml"), *root.rglob("*.yml")]):
        try:
            content = yaml.safe_load(read(path))
        except yaml.YAMLError as error:
            raise UserError(f"{path} is no YAML: {error}") from None
        if not isinstance(content, dict) or "names" not in content:
            continue
        try:
            given = NAMES.validate_python(content["names"])
        except ValidationError:
            raise UserError(
                f"{path}: names is {content['names']!r}; it should be a list of names, or name "
                "each number"
            ) from None
        numbered = given if isinstance(given, dict) else dict(enumerate(given))
        found[path] = dict(sorted(numbered.items()))
    if len(found) != 1:
        which = f"{' and '.join(map(str, found))} have" if found else "none has"
        raise UserError(
            f"the names of YOLO's classes should be in one YAML file in {root}/, such as data.yaml "
            f"with names: [cat, dog]; {which} them"
        )
    return next(iter(found.values()))


def shapes(
    root: Path, file: str | None, names: Mapping[int, str], wanted: Container[str | None]
) -> list[Shape]:
    """The objects of a picture that have one of the wanted names.

    Raises:
        BadPictureError: names the line at fault.
    """
    if file is None:
        return []
    try:
        lines = read(root / file).splitlines()
    except UserError as error:
        raise BadPictureError(str(error)) from None
    found = []
    for number, line in enumerate(lines, start=1):
        where, parts = f"{file}, line {number}", line.split()
        if not parts:
            continue
        try:
            label, *values = (float(part) for part in parts)
        except ValueError as error:
            raise BadPictureError(f"{where}: {error}") from None
        if len(parts) == BOX:
            raise BadPictureError(f"{where}: it is a box; a mask needs the points of a polygon")
        # A float is the key of the integer that it equals.
        if label not in names:
            raise BadPictureError(f"{where}: class {parts[0]} has no name")
        polygon = np.array(values, np.float64)
        found.append(Shape(where, names[int(label)], [polygon], relative=True))
    return named(found, wanted)
