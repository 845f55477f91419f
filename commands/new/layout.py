"""Which files of a folder are pictures, which are their masks, and the patterns that find them."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from commands.new.contents import Kind, look, sample
from stages.shared.runtime.errors import UserError

# Of a group of files, how many are looked at.
LOOKED_AT = 5
# Of a folder's files of one extension, the share that has an ending from which it means something.
SYSTEMATIC = 0.2
# Folders of one level that a pattern names one by one; more of them are `*`.
MOST_NAMED = 4
# The end of a stem, such as `_mask` or `_gtFine_labelIds`, and its beginning, such as `img_`.
TAIL = re.compile(r"(?:[_.-][A-Za-z][A-Za-z0-9]*)+$")
HEAD = re.compile(r"^[A-Za-z]+[_.-]")
# What masks are called that are not of classes, and those that are to be preferred.
NOT_OF_CLASSES = re.compile("inst|object|panoptic|colou?r|vis|depth", re.IGNORECASE)
PREFERRED = re.compile("trainids", re.IGNORECASE)


class Group(NamedTuple):
    """Image files of one folder that are called alike.

    Attributes:
        folder: of them, relative to the root.
        head: what their names begin with.
        tail: what their stems end with.
        extension: of them.
        files: by what stands between, relative to the root.
        kind: what they are.
    """

    folder: str
    head: str
    tail: str
    extension: str
    files: dict[str, str]
    kind: Kind

    @property
    def names(self) -> tuple[str, str, str]:
        """What the names of its files have in common."""
        return self.head, self.tail, self.extension


class Layout(NamedTuple):
    """Pictures and masks, as they were found.

    Attributes:
        family: groups of pictures that are called alike, each with its masks.
        left: other groups of images.
    """

    family: list[tuple[Group, Group]]
    left: list[Group]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """A picture and its mask, relative to the root."""
        return sorted(
            (file, mask.files[key])
            for group, mask in self.family
            for key, file in group.files.items()
            if key in mask.files
        )

    @property
    def bare(self) -> int:
        """The number of pictures without a mask."""
        return sum(len(group.files.keys() - mask.files.keys()) for group, mask in self.family)

    @property
    def kind(self) -> Kind:
        """Of the masks."""
        return self.family[0][1].kind

    @property
    def patterns(self) -> tuple[str, str]:
        """Those that find the pictures and the masks."""
        return _pattern(self.family, 0), _pattern(self.family, 1)

    def without(self, hollow: Sequence[tuple[Group, Group]]) -> "Layout":
        """What is left without some groups."""
        left = [group for pair in hollow for group in pair]
        return Layout([pair for pair in self.family if pair not in hollow], [*self.left, *left])


def layout(root: Path) -> Layout:
    """Look at a folder.

    Raises:
        UserError: it holds no images, or no masks that belong to them.
    """
    found = groups(root)
    if not found:
        raise UserError(f"{root}/ holds no pictures")
    pictures = [group for group in found if group.kind is Kind.PICTURE]
    masks = [group for group in found if group.kind is not Kind.PICTURE]
    chosen = paired(pictures, masks) or paired(*(map(headless, g) for g in (pictures, masks)))
    if not chosen:
        listed = "; ".join(map(shown, found))
        raise UserError(
            f"no pictures in {root}/ have masks of the same name, of one value for each class; it "
            f"holds {listed}; profiles/folder.yaml explains what can be set by hand"
        )
    family = _largest(chosen)
    used = {(group.folder, *group.names[1:]) for pair in family for group in pair}
    return Layout(family, [g for g in found if (g.folder, *g.names[1:]) not in used])


def shown(group: Group) -> str:
    """A group for a message."""
    name = f"{group.head}*{group.tail}{group.extension}"
    return f"{len(group.files):,} {group.kind.value} {PurePosixPath(group.folder, name)}"


def groups(root: Path) -> list[Group]:
    """The image files of a folder, those that are called alike together."""
    found = []
    for folder, folders, contained in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root).as_posix()
        by_extension = defaultdict(list)
        for name in sorted(contained):
            if not name.startswith("."):
                by_extension[Path(name).suffix].append(Path(name).stem)
        for extension, stems in by_extension.items():
            for tail, alike in _alike(stems).items():
                names = (PurePosixPath(relative, stem + extension).as_posix() for stem in alike)
                files = dict(zip((stem.removesuffix(tail) for stem in alike), names, strict=True))
                if kind := _kind([root / file for file in files.values()]):
                    found.append(Group(relative, "", tail, extension, files, kind))
    return found


def _alike(stems: Sequence[str]) -> dict[str, list[str]]:
    """Stems by what they end with, where that is the same for many."""
    ends = {stem: found[0] if (found := TAIL.search(stem)) else "" for stem in stems}
    counts = Counter(ends.values())
    alike = defaultdict(list)
    for stem, end in ends.items():
        systematic = counts[end] >= max(2, SYSTEMATIC * len(stems))
        alike[end if systematic and end != stem else ""].append(stem)
    return alike


def _kind(files: list[Path]) -> Kind | None:
    """What most of some files are; None if they are no images."""
    kinds = Counter(seen.kind for path in sample(files, LOOKED_AT) if (seen := look(path)))
    return kinds.most_common(1)[0][0] if kinds else None


def headless(group: Group) -> Group:
    """A group without what all its names begin with, such as `img_`."""
    heads = {found[0] if (found := HEAD.search(key)) else "" for key in group.files}
    head = heads.pop() if len(heads) == 1 else ""
    files = {key.removeprefix(head): file for key, file in group.files.items()}
    return group._replace(head=head, files=files)


def paired(pictures: Iterable[Group], masks: Iterable[Group]) -> list[tuple[Group, Group]]:
    """The groups of pictures that have masks, and these."""
    every = list(masks)
    return [(group, mask) for group in pictures if (mask := mask_of(group, every))]


def mask_of(group: Group, masks: Iterable[Group]) -> Group | None:
    """The masks that belong to a group of pictures best."""

    def fitness(mask: Group) -> tuple[float, ...]:
        share = len(group.files.keys() & mask.files.keys()) / len(group.files)
        where = f"{mask.folder} {mask.tail}"
        return (
            round(share, 1),
            mask.kind is Kind.LABELS,
            not NOT_OF_CLASSES.search(where),
            bool(PREFERRED.search(where)),
            SequenceMatcher(None, group.folder, mask.folder).ratio(),
        )

    fitting = [mask for mask in masks if group.files.keys() & mask.files.keys()]
    return max(fitting, key=fitness, default=None)


def _largest(pairs: Sequence[tuple[Group, Group]]) -> list[tuple[Group, Group]]:
    """Of pairs that are called alike, those of most files."""
    families = defaultdict(list)
    for group, mask in pairs:
        families[group.head, group.tail, mask.names, mask.kind].append((group, mask))
    return max(families.values(), key=lambda family: sum(len(g.files) for g, _ in family))


def _pattern(family: Sequence[tuple[Group, Group]], side: int) -> str:
    """The pattern of the pictures (side 0), or of the masks (1)."""
    folders = _folders([pair[side].folder for pair in family])
    head, tail, _ = family[0][side].names
    extensions = _either(dict.fromkeys(pair[side].extension for pair in family))
    return PurePosixPath(folders, f"{head}*{tail}{extensions}").as_posix()


def _folders(folders: Sequence[str]) -> str:
    """A pattern of folders: named one by one if they are few, in the order in which they come."""
    parts = [PurePosixPath(folder).parts for folder in folders]
    if len({len(part) for part in parts}) > 1:
        levels = takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
        return PurePosixPath(*(level[0] for level in levels), "**").as_posix()
    named = (dict.fromkeys(level) for level in zip(*parts, strict=True))
    return PurePosixPath(
        *(_either(level) if len(level) <= MOST_NAMED else "*" for level in named)
    ).as_posix()


def _either(names: Iterable[str]) -> str:
    """Names in braces, if there are several."""
    several = list(names)
    return several[0] if len(several) == 1 else f"{{{','.join(several)}}}"
