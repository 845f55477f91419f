"""The classes of a folder's masks: what stands in them, what is ignored, and what it is called."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from commands.new.contents import BORDER, Kind, Values

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
NAME_FILES = (
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "label_colors.txt",
    "class_dict.csv",
    "classes.csv",
    "objectInfo150.txt",
)


class Published(NamedTuple):
    """A published data set's labels.

    Attributes:
        called: in the paths of its masks.
        names: of its labels.
        ignored: labels that stand for no class.
    """

    called: str
    names: Mapping[int, str]
    ignored: frozenset[int]


PUBLISHED = {
    title: Published(entry["called"], entry["names"], frozenset(entry["ignored"]))
    for title, entry in yaml.safe_load(PUBLISHED_FILE.read_text(encoding="utf-8")).items()
}


class Classes(NamedTuple):
    """The classes of some masks.

    Attributes:
        names: label, or colour such as `#ff8000`, to the name.
        ignore: labels or colours that stand for no class.
        said: where the names are from.
        doubts: what may be wrong with them.
    """

    names: dict[Any, str]
    ignore: list[Any]
    said: str
    doubts: list[str]


def classes(root: Path, masks: Sequence[str], kind: Kind, found: Values) -> Classes:
    """Of masks in which these values stand."""
    if kind is Kind.COLOURS:
        return _colours(root, found)
    labels = list(found.pixels)
    for title, published in PUBLISHED.items():
        known = published.names.keys() | published.ignored
        if any(published.called in mask for mask in masks) and known >= set(labels):
            ignored = sorted(published.ignored & set(labels))
            named = {k: name for k, name in published.names.items() if k not in ignored}
            return Classes(named, ignored, f"those of {title}", [])
    ignore, why = _ignored(found)
    kept = [label for label in labels if label not in ignore]
    names, where = _from_file(root, kept)
    if names:
        unnamed_zero = 0 in kept and 0 not in names
        return Classes(names, ignore + [0] * unnamed_zero, f"names from {where}", why)
    if len(kept) == 2:
        named = {kept[0]: "background", kept[1]: "object"}
        return Classes(named, ignore, "no names found", why)
    doubt = "no file has names for the classes; they are called after their labels"
    return Classes({label: f"class {label}" for label in kept}, ignore, "no names", [*why, doubt])


def _ignored(found: Values) -> tuple[list[int], list[str]]:
    """The labels that are no class: 255 beside others, and what lies at borders alone."""
    labels, total = list(found.pixels), sum(found.pixels.values())
    if 255 in labels and len(labels) > 2 and labels[-2] < 250:
        return [255], ["255 is taken for what is ignored"]
    thin = [
        label
        for label in (0, 255)
        if found.borders.get(label, 0) > BORDER and len(labels) > 2
        if found.pixels[label] < 0.15 * total
    ]
    return thin, [f"{label} lies between the others alone: it is ignored" for label in thin]


def _colours(root: Path, found: Values) -> Classes:
    names, where = _colour_names(root)
    colours = [f"#{value:06x}" for value in found.pixels]
    if names and set(colours) <= set(names):
        return Classes(names, [], f"names from {where}", [])
    doubts = ["no file has names for the colours; they are called after them"]
    if len(colours) == 2:
        called = dict(zip(colours, ("background", "object"), strict=True))
        return Classes(called, [], "no names found", [])
    white = ["#ffffff"] if found.borders.get(0xFFFFFF, 0) > BORDER and len(colours) > 2 else []
    if white:
        doubts.append("#ffffff lies between the others alone: it is ignored")
    kept = [colour for colour in colours if colour not in white]
    return Classes({colour: f"colour {colour}" for colour in kept}, white, "no names", doubts)


def _name_files(root: Path) -> list[Path]:
    """Files that may have the names, the nearest to the root first."""
    wanted = {name.lower() for name in NAME_FILES}
    found = [path for path in root.rglob("*") if path.name.lower() in wanted and path.is_file()]
    return sorted(found, key=lambda path: (len(path.parts), path))


def _rows(path: Path) -> list[list[str]]:
    """The cells of a text file's lines: at commas, at tabs, else at spaces."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    separator = next((mark for mark in (",", "\t") if all(mark in line for line in lines)), None)
    if separator:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    return [line.split() for line in lines]


def _from_file(root: Path, labels: Sequence[int]) -> tuple[dict[int, str], str]:
    """Names by label, from the first file that has one for each label but 0, and its path."""
    for path in _name_files(root):
        rows = _rows(path)
        numbered = {
            int(row[0].rstrip(":")): re.split("[;,]", row[-1])[0] if "\t" else row[-1]
            for row in rows
            if len(row) > 1 and re.fullmatch(r"\d+:?", row[0])
        }
        if not numbered:
            lines = [" ".join(row) for row in rows]
            first = 1 if labels and labels[0] > 0 and labels[-1] == len(lines) else 0
            numbered = dict(enumerate(lines, first))
        if set(labels) - {0} <= numbered.keys() and len(set(numbered.values())) > 1:
            return numbered, path.relative_to(root).as_posix()
    return {}, ""


def _colour_names(root: Path) -> tuple[dict[str, str], str]:
    """Names by colour, from the first file that has rows of a name and three numbers."""
    for path in _name_files(root):
        named = {}
        for row in _rows(path):
            numbers = [int(cell) for cell in row if re.fullmatch(r"\d{1,3}", cell)]
            words = [cell for cell in row if not re.fullmatch(r"\d+", cell)]
            if len(numbers) == 3 and words and max(numbers) < 256:
                named["#{:02x}{:02x}{:02x}".format(*numbers)] = " ".join(words)
        if len(named) > 1:
            return named, path.relative_to(root).as_posix()
    return {}, ""
