"""The splits of a folder: those that its folders or its lists name, or shares."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages.prepare.sources.files.lists import columns, meant, names
from stages.prepare.sources.files.patterns import MOST_LISTED

# What the folder or the list of a split is called.
ROLES = {
    "train": re.compile("train(ing|val)?"),
    "validation": re.compile("val(id|idation)?|dev"),
    "test": re.compile("test(ing)?"),
}
# What else stands in the names of lists.
OF_LISTS = re.compile(r"[_.-]?(list|files|ids|images|set|split)s?$")
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
    plain = OF_LISTS.sub("", name.lower())
    return next((split for split, called in ROLES.items() if called.fullmatch(plain)), None)


def splitting(root: Path, pairs: Sequence[tuple[str, str]]) -> Splitting:
    """The splits of pictures, given with their masks."""
    pictures = [picture for picture, _ in pairs]
    by_folder = _folders(pictures)
    by_list = {} if len(by_folder) == len(SHARES) else _lists(root, pictures)
    if len(by_list) > len(by_folder):
        return _named("list", by_list, f"lists {', '.join(by_list.values())}")
    if by_folder:
        return _named("folder", by_folder, f"folders {', '.join(by_folder.values())}")
    folders = {str(PurePosixPath(picture).parent) for picture in pictures}
    shares: dict[str, Any] = {"by": "fraction", **SHARES}
    if passed_over := _passed_over(root, pictures):
        return Splitting(
            shares,
            "shares of 0.7, 0.15 and 0.15",
            f"{', '.join(passed_over)} may be splits, and were not understood: do they hold every "
            "picture, each once?",
        )
    if len(folders) < LEAST_GROUPS:
        return Splitting(
            shares,
            "shares of 0.7, 0.15 and 0.15",
            "pictures of one video or one patient would be in several splits; dataset.splits.group "
            "keeps them together",
        )
    return Splitting(
        shares | {"group": "^.*/"},
        f"shares of 0.7, 0.15 and 0.15 of the {len(folders)} folders",
        "the pictures of a folder are kept in one split, as those of one video would have to be; "
        "without dataset.splits.group each is drawn by itself",
    )


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


def _lists(root: Path, pictures: Sequence[str]) -> dict[str, str]:
    """The lists of the splits: those of the folder that has most of them."""
    called = names(pictures)
    by_folder: dict[Path, dict[str, str]] = defaultdict(dict)
    for path in sorted(p for p in root.rglob("*") if p.suffix in LISTS):
        split = role(path.stem)
        if split and _pictures(path, called):
            relative = path.relative_to(root)
            found = by_folder[relative.parent]
            # `trainval` has the pictures of both, and no list for either is needed then.
            if split not in found or len(path.stem) < len(PurePosixPath(found[split]).stem):
                found[split] = relative.as_posix()
    complete = [
        found
        for found in by_folder.values()
        if "train" in found and ("test" in found or "validation" in found)
        if _apart(root, found.values(), called)
    ]
    return max(complete, key=len, default={})


def _apart(root: Path, lists: Iterable[str], called: dict[str, set[str]]) -> bool:
    """Whether no picture is in two lists."""
    named = [set(_pictures(root / path, called) or ()) for path in lists]
    return sum(map(len, named)) == len(set.union(*named))


def _passed_over(root: Path, pictures: Sequence[str]) -> list[str]:
    """Folders and lists that are called as splits are."""
    folders = {part for picture in pictures for part in PurePosixPath(picture).parts[:-1]}
    lists = {path.name for path in root.rglob("*") if path.suffix in LISTS and role(path.stem)}
    return sorted({folder for folder in folders if role(folder)} | lists)[:MOST_LISTED]


def _pictures(path: Path, called: dict[str, set[str]]) -> list[str] | None:
    """The pictures that a list names; None if a line names none, or several."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*[^#\s]", line)]
    found = [meant(called, line) or meant(called, columns(line)[0]) for line in lines]
    return [min(each) for each in found] if found and all(len(f) == 1 for f in found) else None
