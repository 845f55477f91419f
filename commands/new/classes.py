"""The classes of a folder's masks: what stands in them, what is ignored, and what it is called."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from commands.new.contents import BORDER, Kind, Values
from commands.new.texts import lines

# Labels of which 255 beside is what is ignored, and more classes than most masks have.
LARGEST_LABEL, MANY = 100, 50
PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
# What files are called that have the names, in small letters.
NAME_FILE = re.compile(
    r"(class(es)?|labels?|legend|palette|colou?rs?|categories)"
    r"([_-]?(names?|dict|map|colou?rs?|list))?\.(txt|csv|tsv)|objectinfo150\.txt"
)


HEXADECIMAL = re.compile(r"#[0-9a-fA-F]{6}")


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
    ignore, doubts = _ignored(found)
    kept = [label for label in found.pixels if label not in ignore]
    names, where = _from_file(root, kept)
    if names:
        named = {label: name for label, name in names.items() if label not in ignore}
        # A table that begins at 1 leaves 0 for what has no class.
        if 0 in kept and 0 not in named:
            ignore.append(0)
            doubts.append("0 has no name and is ignored; if it is the background, give it one")
        return Classes(named, ignore, where, doubts)
    for title, published in PUBLISHED.items():
        known = published.names.keys() | published.ignored
        if any(published.called in mask for mask in masks) and known >= found.pixels.keys():
            ignored = sorted(published.ignored & found.pixels.keys())
            doubt = f"the labels are taken for those of {title}: the masks' folders are called so"
            return Classes(dict(published.names), ignored, f"of {title}", [doubt])
    if len(kept) == 2:
        named = {kept[0]: "background", kept[1]: "object"}
        return Classes(named, ignore, "without names", doubts)
    if len(kept) > MANY:
        doubts.append(f"{len(kept)} labels are many: masks of objects, or smoothed ones, have more")
    doubts.append("no file has names for the classes; they are called after their labels")
    return Classes({label: f"class {label}" for label in kept}, ignore, "without names", doubts)


def _ignored(found: Values) -> tuple[list[int], list[str]]:
    """The labels that are no class: 255 beside others, and what lies at borders alone."""
    labels, total = list(found.pixels), sum(found.pixels.values())
    if 255 in labels and len(labels) > 2 and labels[-2] <= LARGEST_LABEL:
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
    unnamed = [colour for colour in colours if colour not in names]
    if names and not unnamed:
        return Classes(names, [], f"named in {where}", [])
    missing = f"{where} has no name for {', '.join(unnamed[:3])}" if names else "no file has names"
    doubts = [f"{missing}; the classes are called after their colours"]
    if len(colours) == 2:
        called = dict(zip(colours, ("background", "object"), strict=True))
        return Classes(called, [], "without names", [])
    white = ["#ffffff"] if found.borders.get(0xFFFFFF, 0) > BORDER and len(colours) > 2 else []
    if white:
        doubts.append("#ffffff lies between the others alone: it is ignored")
    kept = [colour for colour in colours if colour not in white]
    return Classes({colour: f"colour {colour}" for colour in kept}, white, "without names", doubts)


def _name_files(root: Path) -> list[Path]:
    """Files that may have the names, the nearest to the root first."""
    found = [p for p in root.rglob("*") if NAME_FILE.fullmatch(p.name.lower()) and p.is_file()]
    return sorted(found, key=lambda path: (len(path.parts), path))


def _from_file(root: Path, labels: Sequence[int]) -> tuple[dict[int, str], str]:
    """Names by label, from the first file that has one for each label but 0, and where it is."""
    for path in _name_files(root):
        said = lines(path)
        numbered = _table(said) or _numbered(said) or _one_a_line(said, labels)
        if set(labels) - {0} <= numbered.keys() and len(set(numbered.values())) > 1:
            return numbered, f"named in {path.relative_to(root).as_posix()}"
    return {}, ""


def _table(said: Sequence[str]) -> dict[int, str]:
    """Names of a table with commas or tabs, by its first column of whole numbers."""
    separator = next((mark for mark in ("\t", ",") if all(mark in line for line in said)), None)
    if not separator:
        return {}
    rows = [[cell.strip() for cell in row] for row in csv.reader(said, delimiter=separator)]
    # The first row may have titles.
    for body in (rows, rows[1:]):
        columns = list(zip(*body, strict=False))
        number = next((c for c in columns if all(re.fullmatch(r"\d+", cell) for cell in c)), ())
        words = [c for c in columns if not any(re.fullmatch(r"[\d.]*", cell) for cell in c)]
        if words and len(set(number)) == len(number) > 0:
            # A name may go on with others: wall, partition.
            return {int(n): re.split("[;,]", w)[0] for n, w in zip(number, words[-1], strict=True)}
    return {}


def _numbered(said: Sequence[str]) -> dict[int, str]:
    """Names that each come after a number, such as `3: car` or `3 car`."""
    found = [re.fullmatch(r"(\d+)[\s:]+([^\d\s].*)", line) for line in said]
    return {int(match[1]): match[2] for match in found if match} if all(found) else {}


def _one_a_line(said: Sequence[str], labels: Sequence[int]) -> dict[int, str]:
    """A name on each line, from label 0; from 1, if there is none for 0 and one for the last."""
    if any(re.search(r"^\d|[,\t]", line) for line in said):
        return {}
    first = 1 if labels and labels[0] > 0 and labels[-1] == len(said) else 0
    return dict(enumerate(said, first))


def _colour_names(root: Path) -> tuple[dict[str, str], str]:
    """Names by colour, from the first file with lines of a name and a colour, such as `220 20 60`
    or `#dc143c`, and where it is."""
    for path in _name_files(root):
        named = {}
        for line in lines(path):
            cells = re.split(r"[,;:\s]+", line)
            numbers = [int(cell) for cell in cells if re.fullmatch(r"\d{1,3}", cell)]
            written = [cell.lower() for cell in cells if HEXADECIMAL.fullmatch(cell)]
            rest = [cell for cell in cells if not HEXADECIMAL.fullmatch(cell)]
            words = " ".join(cell for cell in rest if not re.fullmatch(r"\d*", cell))
            if len(numbers) == 3 and max(numbers) < 256:
                written.append("#{:02x}{:02x}{:02x}".format(*numbers))
            if words and len(written) == 1:
                named[written[0]] = words
        if len(named) > 1:
            return named, path.relative_to(root).as_posix()
    return {}, ""
