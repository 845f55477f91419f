"""YOLO's polygons: a text file for each picture, a line for each object, and names in YAML."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources.files.patterns import Found, keys
from stages.prepare.sources.shapes.annotation import Annotated, Drawing, read
from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import BadPictureError
from stages.shared.runtime.errors import UserError

# Numbers of a line that is a box: its class, centre, width and height.
BOX = 5


def annotated(settings: AnnotationsSource, pictures: Found, files: Sequence[str]) -> Annotated:
    """Find each picture's file, which has its stem; a picture without one shows no object.

    Raises:
        UserError: there are no names, or two files are of one picture.
    """
    names = names_of(Path(settings.root))
    found = dict.fromkeys(files, settings.annotations)
    of_pictures, of_files = keys(settings.pictures, settings.annotations, pictures, found)
    by_key = {key: file for file, key in of_files.items()}
    if not by_key.keys() & set(of_pictures.values()):
        raise UserError(
            f"no picture of {settings.pictures} has annotations: none of {settings.annotations} "
            "has its stem"
        )
    return Annotated(
        list(dict.fromkeys(names)),
        {
            picture: Drawing(partial(shapes, Path(settings.root), by_key.get(key), names))
            for picture, key in of_pictures.items()
        },
    )


def names_of(root: Path) -> list[str]:
    """The categories' names, from the one YAML file that has them.

    Raises:
        UserError: there is none, or several.
    """
    found = {}
    for path in sorted([*root.rglob("*.yaml"), *root.rglob("*.yml")]):
        content = yaml.safe_load(read(path))
        given = content.get("names") if isinstance(content, dict) else None
        if isinstance(given, dict):
            given = [given[number] for number in sorted(given)]
        if given:
            found[path] = [str(name) for name in given]
    if len(found) != 1:
        which = f"{' and '.join(map(str, found))} have" if found else "none has"
        raise UserError(
            f"the names of YOLO's classes should be in one YAML file in {root}/, such as data.yaml "
            f"with names: [cat, dog]; {which} them"
        )
    return next(iter(found.values()))


def shapes(root: Path, file: str | None, names: Sequence[str]) -> list[Shape]:
    """The objects of a picture.

    Raises:
        BadPictureError: names the line at fault.
    """
    if file is None:
        return []
    found = []
    for number, line in enumerate(read(root / file).splitlines(), start=1):
        where, parts = f"{file}, line {number}", line.split()
        if not parts:
            continue
        try:
            label, *values = (float(part) for part in parts)
        except ValueError as error:
            raise BadPictureError(f"{where}: {error}") from None
        if len(parts) == BOX:
            raise BadPictureError(f"{where}: it is a box; a mask needs the points of a polygon")
        if label not in range(len(names)):
            raise BadPictureError(f"{where}: class {parts[0]} has no name")
        polygon = np.array(values, np.float64)
        found.append(Shape(where, names[int(label)], [polygon], relative=True))
    return found
