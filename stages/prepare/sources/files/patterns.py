"""The files that the patterns of a folder find, and what makes a picture and a mask a pair."""

import glob
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import bracex

from stages.shared.runtime.console import listed
from stages.shared.runtime.errors import UserError

# Of a file, the alternative of its pattern that finds it.
Found = dict[str, str]
Key = tuple[str, ...]
MOST_ALTERNATIVES = 10_000


def matched(root: Path, in_pictures: str, in_masks: str) -> tuple[Found, Found]:
    """The files that the two patterns find; a file that both find is a mask, if only some are.

    Args:
        root: of the paths.
        in_pictures: the pattern of the pictures.
        in_masks: that of the masks.

    Raises:
        UserError: a pattern finds no file, or both find the same; a folder can't be read.
    """
    pictures, masks = matches(root, "pictures", in_pictures), matches(root, "masks", in_masks)
    if masks.keys() < pictures.keys():
        return {file: found for file, found in pictures.items() if file not in masks}, masks
    if both := sorted(pictures.keys() & masks.keys()):
        wide = in_pictures if len(both) < len(pictures) else in_masks
        raise UserError(
            f"params.yaml: dataset.pictures and dataset.masks both match {listed(both)}; narrow "
            f"{wide!r}, so that each file is a picture or a mask"
        )
    return pictures, masks


def keys(
    in_pictures: str, in_masks: str, pictures: Found, masks: Found
) -> tuple[dict[str, Key], ...]:
    """Of pictures and of masks, by file: what a pair has in common.

    That is the stem; if two pictures share it, also the folders that the patterns leave open and
    the place in the braces that both have in their folders.
    """
    folders = [_folders(pattern) for pattern in (in_pictures, in_masks)]
    several = len(folders[0]) == len(folders[1]) > 1
    keyed = [
        {file: _key(file, found, own if several else []) for file, found in files.items()}
        for files, own in zip((pictures, masks), folders, strict=True)
    ]
    if len({key[-1] for key in keyed[0].values()}) == len(pictures):
        keyed = [{file: key[-1:] for file, key in each.items()} for each in keyed]
    _require_distinct(keyed[0], "pictures are called")
    of_pictures = set(keyed[0].values())
    wanted = {file: key for file, key in keyed[1].items() if key in of_pictures}
    _require_distinct(wanted, "files are for the picture")
    return tuple(keyed)


def partners(in_pictures: str, in_masks: str, pictures: Found, masks: Found) -> dict[str, str]:
    """The mask of each picture that has one, by their keys."""
    picture_keys, mask_keys = keys(in_pictures, in_masks, pictures, masks)
    by_key = {key: file for file, key in mask_keys.items()}
    return {file: by_key[key] for file, key in picture_keys.items() if key in by_key}


def normal(name: str) -> str:
    """A name in one of the ways that Unicode has to spell it; archives from macOS use another."""
    return unicodedata.normalize("NFC", name)


def _require_readable(root: Path) -> None:
    """Fail on a folder that can't be listed; `glob` would pass over it."""

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename} can't be read: {error.strerror}; dataset.root is {str(root)!r}"
        )

    for _ in os.walk(root, onerror=fail, followlinks=True):
        pass


def matches(root: Path, key: str, pattern: str) -> Found:
    """The files under `root` that a pattern finds, sorted; hidden ones only if it names them.

    Args:
        root: of the paths.
        key: of `dataset`, for messages.
        pattern: that it has.

    Raises:
        UserError: it finds no file, or a folder can't be read.
    """
    _require_readable(root)
    found: Found = {}
    for alternative in alternatives(pattern):
        # Path.glob follows no links to folders.
        for file in sorted(glob.glob(alternative, root_dir=root, recursive=True)):  # noqa: PTH207
            path = root / file
            if path.is_symlink() and not path.exists():
                raise UserError(f"{path} is a broken link to {path.readlink()}")
            try:
                file.encode()
            except UnicodeEncodeError:
                raise UserError(f"{os.fsencode(path)!r} has a name that is not UTF-8") from None
            if not path.is_dir():
                found.setdefault(PurePosixPath(file).as_posix(), alternative)
    if not found:
        raise UserError(
            f"params.yaml: dataset.{key} is {pattern!r}, which matches no file in {root}/"
        )
    return dict(sorted(found.items()))


def alternatives(pattern: str) -> list[str]:
    """What the braces of a pattern stand for, in order.

    Raises:
        UserError: for too many.
    """
    try:
        return bracex.expand(pattern, limit=MOST_ALTERNATIVES)
    except bracex.ExpansionLimitException:
        raise UserError(
            f"params.yaml: {pattern[:60]!r} and so on stands for more than {MOST_ALTERNATIVES:,} "
            "patterns; use * for what differs"
        ) from None


def _folders(pattern: str) -> list[str]:
    """The folders of a pattern's alternatives, in their order."""
    folders = (str(PurePosixPath(each).parent) for each in alternatives(pattern))
    return list(dict.fromkeys(folders))


def _key(file: str, pattern: str, numbered: list[str]) -> Key:
    """Of a file, with the pattern without braces that finds it and the folders that count."""
    path, parts = PurePosixPath(file), PurePosixPath(pattern)
    before, _, after = parts.stem.partition("*")
    after = "" if glob.has_magic(after) else after
    number = [str(numbered.index(str(parts.parent)))] if numbered else []
    folders = [part for part in path.parent.parts if part not in parts.parent.parts]
    stem = path.stem.removeprefix(before).removesuffix(after)
    return tuple(normal(part) for part in (*number, *folders, stem))


def _require_distinct(keys: Mapping[str, Key], what: str) -> None:
    first: dict[Key, str] = {}
    for file, key in keys.items():
        if (other := first.setdefault(key, file)) != file:
            raise UserError(f"two {what} {'/'.join(key)}: {other} and {file}")
