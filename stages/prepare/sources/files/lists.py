"""Text files in a folder: lists of the pictures of a split, and names of classes."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.prepare.settings import OnDisk
from stages.prepare.sources.files.patterns import Found, normal
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS

# By name, the file that is called so, or several.
Called = Mapping[str, str | set[str]]


class Listed(NamedTuple):
    """A line of a list: a picture, and its mask where the line names one."""

    picture: str
    mask: str | None


def lists(settings: OnDisk, pictures: Found, masks: Found) -> dict[str, list[Listed]]:
    """What the lists of the splits name, a line each, the first time that each is named.

    A line begins with a picture's path, file name or stem. The path may have more folders in front,
    as lists that were written elsewhere do. After a space or a comma, it may go on with the path or
    the file name of the mask; other columns are passed over. Lines that begin with # are comments.

    Raises:
        UserError: a list can't be read or is empty; a line names no picture, several pictures, or a
            picture of another split.
    """
    called, called_masks = names(pictures), names(masks)
    parts: dict[str, list[Listed]] = {}
    split_of: dict[str, str] = {}
    for split, file in named(settings).items():
        found: dict[str, Listed] = {}
        for number, line in lines(settings, file, f"dataset.splits.{split}").items():
            if line.startswith("#"):
                continue
            files, more = pictures_of(called, line)
            if len(files) != 1:
                problem = "matches several pictures" if files else "matches no picture"
                raise UserError(
                    f"{Path(settings.root, file)}, line {number}: {line!r} {problem} of "
                    f"{settings.pictures}"
                )
            (picture,) = files
            if (other := split_of.setdefault(picture, split)) != split:
                raise UserError(f"{picture} is listed for two splits, {other} and {split}")
            # A number may be the stem of a mask by chance.
            by_name = more and PurePosixPath(more[0]).suffix
            mask = meant(called_masks, more[0]) if by_name else set()
            found.setdefault(picture, Listed(picture, min(mask) if len(mask) == 1 else None))
        if not found:
            raise UserError(f"{Path(settings.root, file)} lists no picture")
        parts[split] = list(found.values())
    return parts


def pictures_of(called: Called, line: str) -> tuple[set[str], list[str]]:
    """The pictures that a list's line may mean, and its columns behind the picture's.

    A file name is a column of its own, if there is one of that name; else the whole line may be a
    name with spaces or commas.
    """
    first, *more = columns(line)
    found = meant(called, first)
    if len(found) == 1 and PurePosixPath(first).suffix:
        return found, more
    if whole := meant(called, line):
        return whole, []
    return found, more


def columns(line: str) -> list[str]:
    """The columns of a list's line: what commas separate, or without any, spaces."""
    return [column.strip() for column in line.split(",")] if "," in line else line.split()


def named(settings: OnDisk) -> dict[str, str]:
    """The splits that have a list, or a folder, of their own."""
    names = {split: getattr(settings.splits, split) for split in SPLITS}
    return {split: name for split, name in names.items() if isinstance(name, str)}


def lines(settings: OnDisk, file: str, key: str) -> dict[int, str]:
    """The lines of a text file in the root by number, from 1, without the empty ones.

    Raises:
        UserError: the file can't be read.
    """
    path = Path(settings.root, file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"params.yaml: {key} is {path}, which can't be read: {reason}") from None
    numbered = enumerate(text.splitlines(), start=1)
    return {number: normal(line.strip()) for number, line in numbered if line.strip()}


def names(files: Iterable[str]) -> Called:
    """What files may be called in a list: by path or file name, with or without extension."""
    called: dict[str, str | set[str]] = {}
    for file in files:
        path = PurePosixPath(normal(file))
        for name in map(str, (path, path.with_suffix(""), path.name, path.stem)):
            # A set of one for each name would take most of the memory.
            if (other := called.setdefault(name, file)) != file:
                called[name] = several = {other} if isinstance(other, str) else other
                several.add(file)
    return called


def meant(called: Called, name: str) -> set[str]:
    """The files that a name means: as it is, or without some of the folders that it begins with."""
    parts = PurePosixPath(name).parts
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    found = next((called[end] for end in (name, *ends) if end in called), set[str]())
    return {found} if isinstance(found, str) else found
