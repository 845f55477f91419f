"""The splits of a folder: those that its folders or its lists name, or shares."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from commands.new.texts import lines
from stages.prepare.sources.files.lists import Called, names, pictures_of
from stages.shared.runtime.console import MOST_LISTED

# What the folder or the list of a split is called.
ROLES = {
    "train": re.compile("train(ing|val)?"),
    "validation": re.compile("val(id|idation)?|dev"),
    "test": re.compile("test(ing)?"),
}
# What else stands in the names of lists.
OF_LISTS = re.compile(r"[_.-]?(list|files|ids|images|set|split)s?$")
# What follows a split's name where a benchmark has several, such as `train2017`.
YEAR = re.compile(r"[_-]?(19|20)\d\d$")
LISTS = (".txt", ".lst", ".csv")
# Of the training pictures, what is taken for validation if nothing else is.
VALIDATION = 0.15
SHARES = {"train": 0.7, "validation": VALIDATION, "test": 0.15}
# Number of folders of pictures from which each is taken for a group of its own.
LEAST_GROUPS = 10


class Splitting(NamedTuple):
    """How the pictures are split.

    Attributes:
        settings: the value of `dataset.splits`.
        said: what it is, for the user.
        doubt: why it may be wrong, or nothing.
    """

    settings: dict[str, Any]
    said: str
    doubt: str = ""


def role(name: str) -> str | None:
    """The split that a name stands for."""
    plain = OF_LISTS.sub("", YEAR.sub("", name.lower()))
    return next((split for split, called in ROLES.items() if called.fullmatch(plain)), None)


def splitting(root: Path, pairs: Sequence[tuple[str, str]]) -> Splitting:
    """The splits of pictures, given with their masks."""
    pictures = [picture for picture, _ in pairs]
    by_folder, there = _folders(pictures), lists_in(root)
    by_list = {} if len(by_folder) == len(SHARES) else _lists(root, there, pictures)
    if len(by_list) > len(by_folder):
        return _named("list", by_list, f"lists {', '.join(by_list.values())}")
    if by_folder:
        return _named("folder", by_folder, f"folders {', '.join(by_folder.values())}")
    folders = {str(PurePosixPath(picture).parent) for picture in pictures}
    said, settings = "shares of 0.7, 0.15 and 0.15", {"by": "fraction", **SHARES}
    if passed_over := _passed_over(there, pictures):
        doubt = (
            f"{', '.join(passed_over)} may be splits, and were not understood: do they hold every "
            "picture, each once?"
        )
    elif len(folders) < LEAST_GROUPS:
        doubt = (
            "pictures of one video or one patient would be in several splits; dataset.splits.group "
            "keeps them together"
        )
    else:
        said += f" of the {len(folders)} folders"
        settings["group"] = "^.*/"
        doubt = (
            "the pictures of a folder are kept in one split, as those of one video would have to "
            "be; without dataset.splits.group each is drawn by itself"
        )
    return Splitting(settings, said, doubt)


def lists_in(root: Path) -> list[Path]:
    """Text files that are called as splits are."""
    return sorted(path for path in root.rglob("*") if path.suffix in LISTS and role(path.stem))


def _named(by: str, found: dict[str, str], said: str) -> Splitting:
    """Splits by what was found of train, validation and test, and what takes a missing one's place.

    What is called validation is the test split if there is no other: it is measured once.
    """
    doubt = ""
    if "test" not in found:
        found = {"train": found["train"], "test": found["validation"]}
        doubt = f"there is no test split, so {found['test']} is it"
    if "validation" not in found:
        said += f"; {VALIDATION:.0%} of the training pictures for validation"
    settings = {"by": by} | {split: found.get(split, VALIDATION) for split in SHARES}
    return Splitting(settings, said, doubt)


def _folders(pictures: Sequence[str]) -> dict[str, str]:
    """The folder of each split, where one level of all paths names them."""
    levels = list(zip(*(PurePosixPath(picture).parts[:-1] for picture in pictures), strict=False))
    for level in levels:
        if len(set(level)) > 1:
            by_role = {split: name for name in dict.fromkeys(level) if (split := role(name))}
            if len(by_role) == len(set(level)) and "train" in by_role:
                return by_role
    return {}


def _lists(root: Path, there: Sequence[Path], pictures: Sequence[str]) -> dict[str, str]:
    """The lists of the splits: those of the folder that has most of them."""
    called = names(pictures)
    by_folder: dict[Path, dict[str, Path]] = defaultdict(dict)
    listed = {path: part for path in there if (part := _pictures(path, called))}
    for path in listed:
        found, split = by_folder[path.parent], str(role(path.stem))
        # `trainval` has the pictures of both, and no list for either is needed then.
        if split not in found or len(path.stem) < len(found[split].stem):
            found[split] = path
    complete = [
        {split: path.relative_to(root).as_posix() for split, path in found.items()}
        for found in by_folder.values()
        if "train" in found and ("test" in found or "validation" in found)
        if _apart([listed[path] for path in found.values()])
    ]
    return max(complete, key=len, default={})


def _apart(parts: Sequence[set[str]]) -> bool:
    """Whether no picture is in two parts."""
    return sum(map(len, parts)) == len(set.union(*parts))


def _passed_over(there: Sequence[Path], pictures: Sequence[str]) -> list[str]:
    """Folders and lists that are called as splits are."""
    folders = {part for picture in pictures for part in PurePosixPath(picture).parts[:-1]}
    found = {folder for folder in folders if role(folder)} | {path.name for path in there}
    return sorted(found)[:MOST_LISTED]


def _pictures(path: Path, called: Called) -> set[str]:
    """The pictures that a list names; none if a line names none, or several."""
    found = [pictures_of(called, line)[0] for line in lines(path)]
    return set.union(*found) if found and all(len(each) == 1 for each in found) else set()
