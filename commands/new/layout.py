"""Which files of a folder are pictures, which are their masks, and the patterns that find them."""

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from commands.new.contents import Kind, alike, look, sample
from commands.new.splitting import lists_in, role
from commands.new.texts import lines
from stages.prepare.sources.files.lists import columns, meant, names
from stages.shared.runtime.errors import UserError

# Of a group of files, how many are looked at.
LOOKED_AT = 5
# Of a folder's files of one extension, the share that has an ending from which it means something.
SYSTEMATIC = 0.2
# Folders of one level that a pattern names one by one; more of them are `*`.
MOST_NAMED = 4
# As many where a pattern leaves them open.
OPEN = 1
# Groups of masks, beyond which those of a picture are looked for near it.
MANY = 100
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
        extensions: of them, alike but for capitals.
        files: by what stands between, relative to the root.
        kind: what they are.
        alike: masks that are much the same for every picture, such as the field of view of a lens.
    """

    folder: str
    head: str
    tail: str
    extensions: tuple[str, ...]
    files: dict[str, str]
    kind: Kind
    alike: bool = False


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
    def kind(self) -> Kind:
        """Of the masks."""
        return self.family[0][1].kind

    def patterns(self, most_named: int) -> tuple[str, str]:
        """Those that find the pictures and the masks.

        Args:
            most_named: folders of one level that are named one by one, beside those of splits.
        """
        pictures, masks = zip(*self.family, strict=True)
        return pattern(pictures, most_named), pattern(masks, most_named)

    def without(self, hollow: Sequence[tuple[Group, Group]]) -> "Layout":
        """What is left without some groups."""
        left = [group for pair in hollow for group in pair]
        return Layout([pair for pair in self.family if pair not in hollow], [*self.left, *left])


def layout(root: Path, named: Sequence[Mapping[str, str]]) -> Layout:
    """Look at a folder, whose files are those of `by_extension`.

    Raises:
        UserError: it holds no images, or no masks that belong to them.
    """
    whole, parts = groups(root, named, split=False), groups(root, named, split=True)
    if not whole:
        raise UserError(f"{root}/ holds no pictures")
    tried = [
        (whole, paired(whole)),
        (parts, paired(parts)),
        (parts, paired(map(headless, parts))),
        (whole, listed_together(root, whole)),
    ]
    found, chosen = max(tried, key=lambda trial: sum(matches(*pair) for pair in trial[1]))
    if not chosen:
        listed = "; ".join(map(shown, parts))
        raise UserError(
            f"no pictures in {root}/ have masks of the same name, of one value for each class; it "
            f"holds {listed}, and no outlines in COCO's or LabelMe's JSON or YOLO's polygons; "
            "docs/data.md explains what can be set by hand"
        )
    family = _largest(chosen)
    used = {file for pair in family for group in pair for file in group.files.values()}
    return Layout(family, [group for group in found if not used & set(group.files.values())])


def shown(group: Group) -> str:
    """A group for a message."""
    name = f"{group.head}*{group.tail}{either(group.extensions)}"
    return f"{len(group.files):,} {group.kind.value} {PurePosixPath(group.folder, name)}"


def by_extension(root: Path) -> list[dict[str, str]]:
    """The files of each folder and extension: the stem, and the path relative to the root."""
    found: list[dict[str, str]] = []
    for folder, folders, contained in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root).as_posix()
        paths: dict[str, dict[str, str]] = defaultdict(dict)
        for name in sorted(contained):
            if not name.startswith("."):
                path = PurePosixPath(relative, name)
                paths[path.suffix.lower()][path.stem] = path.as_posix()
        found += paths.values()
    return found


def groups(root: Path, named: Iterable[Mapping[str, str]], split: bool) -> list[Group]:
    """The images of each folder and extension; with `split`, those that are called alike."""
    found = []
    for paths in named:
        for tail, stems in (by_tail(list(paths)) if split else {"": list(paths)}).items():
            files = {stem.removesuffix(tail): paths[stem] for stem in stems}
            extensions = dict.fromkeys(PurePosixPath(file).suffix for file in files.values())
            folder = PurePosixPath(next(iter(files.values()))).parent.as_posix()
            where = [root / file for file in files.values()]
            if kind := _kind(where):
                same = kind is not Kind.PICTURE and alike(sample(where, LOOKED_AT))
                found.append(Group(folder, "", tail, tuple(extensions), files, kind, same))
    return found


def by_tail(stems: Sequence[str]) -> dict[str, list[str]]:
    """Stems by what they end with, where that is the same for many."""
    ends = {stem: found[0] if (found := TAIL.search(stem)) else "" for stem in stems}
    counts, parts = Counter(ends.values()), defaultdict(list)
    for stem, end in ends.items():
        systematic = counts[end] >= max(2, SYSTEMATIC * len(stems))
        parts[end if systematic and end != stem else ""].append(stem)
    return parts


def _kind(files: list[Path]) -> Kind | None:
    """What most of some files are; None if they are no images."""
    kinds = Counter(kind for path in sample(files, LOOKED_AT) if (kind := look(path)))
    return kinds.most_common(1)[0][0] if kinds else None


def headless(group: Group) -> Group:
    """A group without what all its names begin with, such as `img_`."""
    heads = {found[0] if (found := HEAD.search(key)) else "" for key in group.files}
    head = heads.pop() if len(heads) == 1 else ""
    files = {key.removeprefix(head): file for key, file in group.files.items()}
    return group._replace(head=head, files=files)


def paired(found: Iterable[Group]) -> list[tuple[Group, Group]]:
    """The groups of pictures that have masks, and these; no mask is that of two pictures."""
    every = list(found)
    near = Near([group for group in every if group.kind is not Kind.PICTURE])
    pairs = [
        (group, mask)
        for group in every
        if group.kind is Kind.PICTURE and (mask := mask_of(group, near.to(group)))
    ]
    taken: set[str] = set()
    chosen = []
    for group, mask in sorted(pairs, key=lambda pair: likeness(*pair), reverse=True):
        wanted = {mask.files[key] for key in group.files.keys() & mask.files.keys()}
        if not wanted & taken:
            taken |= wanted
            chosen.append((group, mask))
    return sorted(chosen, key=lambda pair: pair[0].folder)


class Near:
    """Groups of masks by where they lie; of many, only the near ones can be those of a picture.

    Args:
        masks: of a folder.
    """

    def __init__(self, masks: list[Group]) -> None:
        self.masks, self.by_place = masks, defaultdict[str, list[Group]](list)
        for mask in masks:
            for place in self._places(mask):
                self.by_place[place].append(mask)

    def to(self, group: Group) -> list[Group]:
        """Those that may belong to a group of pictures."""
        if len(self.masks) <= MANY:
            return self.masks
        found = {id(m): m for place in self._places(group) for m in self.by_place[place]}
        return [mask for mask in found.values() if matches(group, mask)] or self.masks

    def _places(self, group: Group) -> tuple[str, str]:
        """Its own folder's name, and the folder that this lies in."""
        folder = PurePosixPath(group.folder)
        return folder.name, f"{folder.parent}/"


def listed_together(root: Path, every: Sequence[Group]) -> list[tuple[Group, Group]]:
    """The groups of pictures and masks that the lists of splits name side by side, a line each."""
    if not (lists := lists_in(root)):
        return []
    group_of = {file: group for group in every for file in group.files.values()}
    called = names(group_of)
    sides = defaultdict[tuple[str, str], dict[str, str]](dict)
    for line in (line for path in lists for line in lines(path)):
        found = [meant(called, column) for column in columns(line)[:2]]
        if [len(files) for files in found] != [1, 1]:
            continue
        picture, mask = map(min, found)
        if group_of[picture].kind is Kind.PICTURE and group_of[mask].kind is not Kind.PICTURE:
            sides[group_of[picture].folder, group_of[mask].folder][picture] = mask
    return [
        (
            group_of[next(iter(pairs))]._replace(files={picture: picture for picture in pairs}),
            group_of[next(iter(pairs.values()))]._replace(files=pairs),
        )
        for pairs in sides.values()
    ]


def matches(group: Group, mask: Group) -> int:
    """How many pictures of a group have a mask in another."""
    return len(group.files.keys() & mask.files.keys())


def likeness(group: Group, mask: Group) -> float:
    """How alike the folders of two groups are called, 0 to 1."""
    return SequenceMatcher(None, group.folder, mask.folder).ratio()


def mask_of(group: Group, masks: Iterable[Group]) -> Group | None:
    """The masks that belong to a group of pictures best."""

    def fitness(mask: Group) -> tuple[float, ...]:
        where = f"{mask.folder} {mask.tail}"
        return (
            mask.kind is Kind.LABELS,
            not mask.alike,
            not NOT_OF_CLASSES.search(where),
            bool(PREFERRED.search(where)),
            likeness(group, mask),
            matches(group, mask),
        )

    return max((mask for mask in masks if matches(group, mask)), key=fitness, default=None)


def _largest(pairs: Sequence[tuple[Group, Group]]) -> list[tuple[Group, Group]]:
    """Of pairs that are called alike, those of most files."""
    families = defaultdict(list)
    for group, mask in pairs:
        names = [(each.head, of_any_split(each.tail)) for each in (group, mask)]
        families[*names, mask.kind].append((group, mask))
    return max(families.values(), key=lambda family: sum(len(g.files) for g, _ in family))


def of_any_split(tail: str) -> str:
    """The end of a stem, whichever split it names: `_training` and `_test` are alike."""
    return re.sub(r"[A-Za-z0-9]+", lambda word: "*" if role(word[0]) else word[0], tail)


def pattern(every: Sequence[Group], most_named: int) -> str:
    """The pattern that finds groups whose files are called alike, see `Layout.patterns`."""
    within = folders([glob.escape(group.folder) for group in every], most_named)
    head, tail = every[0].head, either(dict.fromkeys(group.tail for group in every))
    extensions = either(dict.fromkeys(e for group in every for e in group.extensions))
    return PurePosixPath(within, f"{head}*{tail}{extensions}").as_posix()


def folders(every: Sequence[str], most_named: int) -> str:
    """A pattern of folders: named one by one, in the order in which they come, if they are few or
    are those of splits."""
    parts = [PurePosixPath(folder).parts for folder in every]
    if len({len(part) for part in parts}) > 1:
        levels = takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
        return PurePosixPath(*(level[0] for level in levels), "**").as_posix()
    named = (dict.fromkeys(level) for level in zip(*parts, strict=True))
    return PurePosixPath(
        *(either(level) if nameable(level, most_named) else "*" for level in named)
    ).as_posix()


def nameable(level: Collection[str], most_named: int) -> bool:
    """Whether folders can be named one by one."""
    few = max(most_named, MOST_NAMED) if any(map(role, level)) else most_named
    return len(level) == 1 or (len(level) <= few and not re.search(r"[{},]", "".join(level)))


def either(names: Iterable[str]) -> str:
    """Names in braces, if there are several."""
    several = list(names)
    return several[0] if len(several) == 1 else f"{{{','.join(several)}}}"
