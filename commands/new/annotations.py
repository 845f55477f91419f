"""Annotations beside pictures: their format, the patterns that find them, and what they hold."""

import glob
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from commands.new.contents import Kind
from commands.new.layout import OPEN, either, folders, groups, nameable, pattern
from commands.new.splitting import SHARES, Splitting, role, splitting
from commands.new.texts import lines
from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources import annotations
from stages.prepare.sources.shapes.annotation import Annotated
from stages.shared.formats.pictures import BadPictureError
from stages.shared.runtime.errors import UserError
from stages.shared.settings.mistakes import validate
from stages.shared.settings.reading import PARAMS_FILE

# Files of a folder and extension that are looked at one by one; of more, some are.
MOST_OPENED, LOOKED_AT = 50, 5
# Of COCO's own files, those with masks of objects; others repeat them.
OBJECTS = "instances"
# Annotated pictures whose shapes are counted, and categories that are shown.
COUNTED, MOST_SHOWN, MOST_BROKEN = 2000, 12, 3
# Numbers of a line of YOLO's that is a polygon: its class, and three points.
POLYGON = 7
# How far its points may lie outside of the picture, which is 1 wide and 1 high.
BEYOND = 0.5


class Drawn(NamedTuple):
    """Annotations: their format, as in params.yaml, and their files, relative to the root."""

    format: str
    files: list[str]


def found(root: Path, named: Sequence[Mapping[str, str]]) -> Drawn | None:
    """The annotations among the files of `by_extension`; None if there are none that are known
    here."""
    by_format: dict[str, list[str]] = {"coco": [], "labelme": [], "yolo": []}
    for paths in named:
        files = list(paths.values())
        if (extension := PurePosixPath(files[0]).suffix.lower()) == ".json":
            opened = files if len(files) <= MOST_OPENED else files[:LOOKED_AT]
            kinds = {file: kind_of_json(root / file) for file in opened}
            if opened == files:
                for file, kind in kinds.items():
                    by_format.get(kind or "", []).append(file)
            elif set(kinds.values()) == {"labelme"}:
                by_format["labelme"] += files
        elif extension == ".txt" and any(map(is_yolo, with_content(root, files))):
            by_format["yolo"] += files
    if any(OBJECTS in file for file in by_format["coco"]):
        by_format["coco"] = [file for file in by_format["coco"] if OBJECTS in file]
    best = max(by_format, key=lambda name: len(by_format[name]))
    return Drawn(best, sorted(by_format[best])) if by_format[best] else None


def with_content(root: Path, files: Iterable[str]) -> Iterator[Path]:
    """Some files that are not empty: a picture without an object may have one that is."""
    paths = (root / file for file in files)
    return islice((path for path in paths if path.stat().st_size), LOOKED_AT)


def kind_of_json(path: Path) -> str | None:
    """The format of a JSON file, if it has outlines of objects."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("shapes"), list) and "imageHeight" in content:
        return "labelme"
    listed = [content.get(key) for key in ("images", "categories", "annotations")]
    if not all(isinstance(entries, list) for entries in listed):
        return None
    outlined = (isinstance(a, dict) and a.get("segmentation") for a in content["annotations"])
    return "coco" if any(outlined) else None


def is_yolo(path: Path) -> bool:
    """Whether a text file has polygons, a line each."""
    found = [line.split() for line in lines(path)]
    try:
        return bool(found) and all(
            len(line) >= POLYGON
            and line[0].isdecimal()
            and all(-BEYOND <= float(number) <= 1 + BEYOND for number in line[1:])
            for line in found
        )
    except ValueError:
        return False


def pattern_of(drawn: Drawn) -> str:
    """The pattern that finds files of annotations; one for each picture are found by `*`."""
    paths = [PurePosixPath(file) for file in drawn.files]
    within = folders([glob.escape(str(path.parent)) for path in paths], OPEN)
    names = list(dict.fromkeys(path.name for path in paths))
    if drawn.format != "coco":
        return PurePosixPath(within, f"*{paths[0].suffix}").as_posix()
    if len(names) == 1 or len({path.parent for path in paths}) == 1:
        return PurePosixPath(within, either(map(glob.escape, names))).as_posix()
    if nameable(drawn.files, len(drawn.files)):
        return either(map(glob.escape, drawn.files))
    return PurePosixPath(within, "*.json").as_posix()


def described(
    root: Path, drawn: Drawn, named: Sequence[Mapping[str, str]]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is in params.yaml of annotations, what should be looked at, and the pictures.

    Raises:
        UserError: there are no pictures that they belong to, or a file is broken.
    """
    every = [g for g in groups(root, named, split=False) if g.kind is Kind.PICTURE]
    if not every:
        raise UserError(f"{root}/ holds annotations, such as {drawn.files[0]}, and no pictures")
    dataset: dict[str, Any] = {
        "source": "annotations",
        "root": root.as_posix(),
        "format": drawn.format,
        "pictures": pattern(every, OPEN),
        "annotations": pattern_of(drawn),
        "background": "background",
        "classes": None,
        "ignore": [],
    }
    # The splits are known once the pictures are.
    rest = {"image_size": 224, "shard_size": 1, "bad_pictures": "stop"}
    rest["splits"] = {"by": "fraction", **SHARES}
    settings = validate(AnnotationsSource, dataset | rest, ("dataset",), PARAMS_FILE)
    pictures, annotated = annotations.read(settings)
    drawn_on = sorted(annotated.drawings)
    split = splitting(root, [(picture, "") for picture in drawn_on])
    dataset["splits"] = split.settings
    print(f"{root}/: {len(pictures):,} pictures, {len(drawn_on):,} with annotations")
    print(f"pictures: {dataset['pictures']}")
    print(f"annotations: {dataset['annotations']} ({drawn.format})")
    shapes, broken = shapes_of(annotated)
    say_classes(annotated.names, shapes)
    print(f"splits: {split.said}")
    doubts = [split.doubt, *doubts_of(drawn, annotated, split), *broken[:MOST_BROKEN]]
    if len(broken) > MOST_BROKEN:
        doubts.append(f"{len(broken) - MOST_BROKEN:,} more pictures have broken annotations")
    return dataset, [*filter(None, doubts)], drawn_on


def doubts_of(drawn: Drawn, annotated: Annotated, split: Splitting) -> Iterator[str]:
    """What may be wrong with annotations and these splits of their pictures."""
    with_file = {PurePosixPath(file).stem for file in drawn.files}
    bare = sum(PurePosixPath(picture).stem not in with_file for picture in annotated.drawings)
    if drawn.format == "yolo" and bare:
        yield f"pictures without annotations, which are background: {bare:,}"
    parts = [file for file in drawn.files if role(PurePosixPath(file).stem.split("_")[-1])]
    if parts and split.settings["by"] == "fraction":
        yield (
            f"{', '.join(parts[:3])} may be splits: dataset.splits takes folders, or lists of "
            "pictures"
        )
    if annotated.missing:
        yield f"{len(annotated.missing):,} annotated pictures are not there"


def shapes_of(annotated: Annotated) -> tuple[Counter[str], list[str]]:
    """How many shapes each category has on some of the pictures, and what is broken there."""
    wanted, shapes, broken = set(annotated.names), Counter[str](), []
    for picture, drawing in islice(annotated.drawings.items(), COUNTED):
        try:
            shapes.update(str(shape.name) for shape in drawing.shapes(wanted) if shape.name)
        except BadPictureError as error:
            broken.append(f"{picture}: {error}; mend it, or set bad_pictures to skip")
    return shapes, broken


def say_classes(names: Sequence[str], shapes: Mapping[str, int]) -> None:
    """The classes, line by line."""
    print(f"classes: {len(names)}, and the background")
    for name in names[:MOST_SHOWN]:
        print(f"  {name}: {shapes.get(name, 0):,} shapes")
    if len(names) > MOST_SHOWN:
        print(f"  and {len(names) - MOST_SHOWN} more")
