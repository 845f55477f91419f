"""Source `folder`: pictures and masks on disk, found by glob patterns and matched by stem.

    scan -> pairs (picture, mask) -> splits -> examples

Errors that concern the whole folder are reported before the first picture is decoded.
"""

import glob
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from stages.prepare.decoding import Decoded, Example, Labels, decode_pair
from stages.prepare.settings import MAX_CLASSES, FolderSource, FractionSplits, has_colours
from stages.shared.formats.pictures import BadPictureError
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS

# How many files an error lists.
MOST_LISTED = 5

Key = tuple[str, ...]
Decoding = Callable[[], Decoded]


class Pair(NamedTuple):
    """A picture and its mask, as paths relative to the root; None for a picture without one."""

    picture: str
    mask: str | None


def labels(settings: FolderSource) -> Labels:
    """What stands in the masks.

    Raises:
        UserError: the text file of class names is missing, or has too few or too many.
    """
    names: dict[Any, str | None] = {}
    if isinstance(settings.classes, str):
        path = Path(settings.root, settings.classes)
        lines = _lines(settings, settings.classes, "dataset.classes")
        if empty := sorted(set(range(1, len(lines) + 1)) - set(lines)):
            raise UserError(
                f"{path}: line {empty[0]} is empty; it should name label {empty[0] - 1}"
            )
        if not 2 <= (count := len(set(lines.values()))) <= MAX_CLASSES:
            raise UserError(
                f"{path} names {count} classes, one a line; it should name 2 to {MAX_CLASSES}"
            )
        names |= {number - 1: name for number, name in lines.items()}
    else:
        names |= settings.classes
    names |= dict.fromkeys(settings.ignore)
    if not has_colours(settings):
        return Labels(names)
    return Labels({int(colour[1:], 16): name for colour, name in names.items()}, colours=True)


def check(settings: FolderSource) -> None:
    """Find the mistakes that show before a picture is decoded.

    Raises:
        UserError: as `examples`.
    """
    splits(settings, pairs(settings), seed=0)


def files(settings: FolderSource) -> Iterator[Path]:
    """The files that the pictures, masks, lists and names of classes come from."""
    for folder, _, names in os.walk(settings.root, followlinks=True):
        yield from (Path(folder, name) for name in names)


def examples(settings: FolderSource, seed: int) -> dict[str, list[Example]]:
    """The pictures of each split, sorted by path, still encoded.

    Args:
        settings: of the data set.
        seed: draws the pictures of a split that is given as a share.

    Raises:
        UserError: names the pattern that matches nothing, the files that both match or that have no
            partner, the pictures in two splits or in none, a link that leads nowhere, or a folder
            that can't be read.
    """
    root, colours = Path(settings.root), has_colours(settings)
    found = pairs(settings, note=print)
    parts = splits(settings, found, seed)
    if unused := set(found).difference(*parts.values()):
        print(f"note: in no split: {_listed(sorted(pair.picture for pair in unused))}")
    return {
        split: [Example(p.picture, Decode(root, p, colours), p.mask) for p in part]
        for split, part in parts.items()
    }


class Decode:
    """Reads and decodes a pair. Pickled, for another machine, it takes the files' content along.

    Args:
        root: of the paths.
        pair: of files.
        colours: the mask's colours are its labels.
    """

    def __init__(self, root: Path, pair: Pair, colours: bool) -> None:
        self.root, self.pair, self.colours = root, pair, colours

    def __call__(self) -> Decoded:
        return _from_contents(*self._contents())()

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _from_contents, self._contents()
        except BadPictureError as error:
            return _refused, (str(error),)

    def _contents(self) -> tuple[bytes, bytes, bool]:
        picture, mask = self.pair
        if mask is None:
            raise BadPictureError("it has no mask")
        return _content(self.root / picture), _content(self.root / mask), self.colours


def _from_contents(picture: bytes, mask: bytes, colours: bool) -> Decoding:
    return partial(decode_pair, picture, mask, colours=colours, turn=True)


def _refused(reason: str) -> Decoding:
    def decode() -> Decoded:
        raise BadPictureError(reason)

    return decode


def pairs(settings: FolderSource, note: Callable[[str], object] = lambda text: None) -> list[Pair]:
    """The pictures with their masks, sorted by path.

    Pictures and masks are matched by stem; if two pictures share a stem, by the folders that the
    patterns leave open and stem.

    Args:
        settings: of the data set.
        note: is called with what is left out.

    Raises:
        UserError: as `examples`.
    """
    found, found_masks = _matched(settings)
    pictures, masks = _keyed(found, settings.pictures), _keyed(found_masks, settings.masks)
    if len({key[-1] for key in pictures.values()}) == len(pictures):
        pictures = {file: key[-1:] for file, key in pictures.items()}
        masks = {file: key[-1:] for file, key in masks.items()}
    _require_distinct(pictures, "pictures are called")
    _require_distinct(masks, "masks are for the picture")

    mask_of = {key: file for file, key in masks.items()}
    bare = [file for file, key in pictures.items() if key not in mask_of]
    keys = set(pictures.values())
    spare = [file for file, key in masks.items() if key not in keys]
    hint = f"looked for in {settings.root} as {settings.masks} and {settings.pictures}"
    skip = settings.bad_pictures == "skip"
    if len(bare) == len(pictures):
        raise UserError(
            f"no picture has a mask: {bare[0]} has the stem {pictures[bare[0]][-1]!r}, {spare[0]} "
            f"{masks[spare[0]][-1]!r}; {hint}"
        )
    for alone, partner in ((spare, "picture"), (bare, "mask")):
        if alone and not skip:
            raise UserError(
                f"no {partner} for {_listed(alone)}; {hint}; to leave them out, set "
                "dataset.bad_pictures to skip"
            )
    if spare:
        note(f"note: no picture for {_listed(spare)}; {hint}")
    return [Pair(file, mask_of.get(key)) for file, key in pictures.items()]


def splits(settings: FolderSource, found: list[Pair], seed: int) -> dict[str, list[Pair]]:
    """The pairs of each split, in the order of `found`.

    Raises:
        UserError: as `examples`.
    """
    if isinstance(settings.splits, FractionSplits):
        shares = [getattr(settings.splits, split) for split in SPLITS]
        parts = dict(zip(SPLITS, _drawn(found, shares, seed), strict=True))
    else:
        parts = (_by_folder if settings.splits.by == "folder" else _by_list)(settings, found)
        share = settings.splits.validation
        if not isinstance(share, str):
            drawn = _drawn(parts["train"], [share, 1 - share], seed)
            parts["validation"], parts["train"] = drawn
    return {split: sorted(parts[split]) for split in SPLITS}


def _drawn(found: list[Pair], shares: list[float], seed: int) -> list[list[Pair]]:
    """Parts of `found` of these shares.

    The order is that of a hash of seed and path, so a picture that is added moves few others.
    """
    order = sorted(found, key=lambda p: hashlib.sha256(f"{seed}/{p.picture}".encode()).digest())
    ends = [round(end * len(order)) for end in np.cumsum([0.0, *shares])]
    return [order[start:end] for start, end in pairwise(ends)]


def _named(settings: FolderSource) -> dict[str, str]:
    """The splits that have a name of their own."""
    names = {split: getattr(settings.splits, split) for split in SPLITS}
    return {split: name for split, name in names.items() if isinstance(name, str)}


def _by_folder(settings: FolderSource, found: list[Pair]) -> dict[str, list[Pair]]:
    names = _named(settings)
    parts: dict[str, list[Pair]] = {split: [] for split in names}
    for pair in found:
        path = f"/{PurePosixPath(pair.picture).parent}/"
        own = [split for split, name in names.items() if f"/{name.strip('/')}/" in path]
        if len(own) != 1:
            where = "in two splits" if own else "in no split"
            folders = ", ".join(f"{name}/" for name in names.values())
            raise UserError(
                f"{pair.picture} is {where}: dataset.splits.by is folder, so each picture should "
                f"lie in one of {folders}; or narrow dataset.pictures"
            )
        parts[own[0]].append(pair)
    return parts


def _by_list(settings: FolderSource, found: list[Pair]) -> dict[str, list[Pair]]:
    """A line is a picture's path, file name or stem; more columns, after a space, are passed over.

    Lines that begin with # are comments.
    """
    called: dict[str, set[Pair]] = {}
    for pair in found:
        path = PurePosixPath(_normal(pair.picture))
        for name in (str(path), path.name, path.stem):
            called.setdefault(name, set()).add(pair)
    parts: dict[str, list[Pair]] = {}
    split_of: dict[Pair, str] = {}
    for split, name in _named(settings).items():
        parts[split] = []
        for number, line in _lines(settings, name, f"dataset.splits.{split}").items():
            if line.startswith("#"):
                continue
            meant = called.get(line) or called.get(line.split()[0], set())
            if len(meant) != 1:
                problem = "matches several pictures" if meant else "matches no picture"
                raise UserError(
                    f"{Path(settings.root, name)}, line {number}: {line!r} {problem} of "
                    f"{settings.pictures}"
                )
            (pair,) = meant
            if (other := split_of.setdefault(pair, split)) != split:
                raise UserError(f"{pair.picture} is listed for two splits, {other} and {split}")
            parts[split].append(pair)
        if not parts[split]:
            raise UserError(f"{Path(settings.root, name)} lists no picture")
        parts[split] = list(dict.fromkeys(parts[split]))
    return parts


def _lines(settings: FolderSource, file: str, key: str) -> dict[int, str]:
    """The lines of a text file in the root by number, from 1, without the empty ones."""
    path = Path(settings.root, file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"params.yaml: {key} is {path}, which can't be read: {reason}") from None
    lines = enumerate(text.splitlines(), start=1)
    return {number: _normal(line.strip()) for number, line in lines if line.strip()}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPictureError(f"{path} can't be read: {error.strerror}") from None


def _require_readable(root: Path) -> None:
    """Fail on a folder that can't be listed; `glob` would pass over it."""

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename} can't be read: {error.strerror}; dataset.root is {str(root)!r}"
        )

    for _ in os.walk(root, onerror=fail, followlinks=True):
        pass


def _matched(settings: FolderSource) -> tuple[list[str], list[str]]:
    """The files that each of the two patterns finds."""
    root = Path(settings.root)
    _require_readable(root)
    pictures = _found(root, "pictures", settings.pictures)
    masks = _found(root, "masks", settings.masks)
    if both := sorted(set(pictures) & set(masks)):
        wide = settings.pictures if len(both) < len(pictures) else settings.masks
        raise UserError(
            f"params.yaml: dataset.pictures and dataset.masks both match {_listed(both)}; narrow "
            f"{wide!r}, so that each file is a picture or a mask"
        )
    return pictures, masks


def _found(root: Path, key: str, pattern: str) -> list[str]:
    """The files under `root` that a pattern finds, sorted; hidden ones only if it names them."""
    found = []
    # Path.glob follows no links to folders.
    for file in sorted(glob.glob(pattern, root_dir=root, recursive=True)):  # noqa: PTH207
        path = root / file
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a broken link to {path.readlink()}")
        try:
            file.encode()
        except UnicodeEncodeError:
            raise UserError(f"{os.fsencode(path)!r} has a name that is not UTF-8") from None
        if not path.is_dir():
            found.append(PurePosixPath(file).as_posix())
    if not found:
        raise UserError(
            f"params.yaml: dataset.{key} is {pattern!r}, which matches no file in {root}/"
        )
    return found


def _keyed(files: Iterable[str], pattern: str) -> dict[str, Key]:
    """By file: the folders that the pattern leaves open, and the stem."""
    parts = PurePosixPath(pattern)
    before, _, after = parts.stem.partition("*")
    after = "" if glob.has_magic(after) else after
    keys = {}
    for file in files:
        path = PurePosixPath(file)
        folders = [part for part in path.parent.parts if part not in parts.parent.parts]
        stem = path.stem.removeprefix(before).removesuffix(after)
        keys[file] = tuple(_normal(part) for part in (*folders, stem))
    return keys


def _require_distinct(keys: Mapping[str, Key], what: str) -> None:
    first: dict[Key, str] = {}
    for file, key in keys.items():
        if (other := first.setdefault(key, file)) != file:
            raise UserError(f"two {what} {'/'.join(key)}: {other} and {file}")


def _normal(name: str) -> str:
    """A name in one of the ways that Unicode has to spell it; archives from macOS use another."""
    return unicodedata.normalize("NFC", name)


def _listed(files: list[str]) -> str:
    more = len(files) - MOST_LISTED
    return ", ".join(files[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
