"""Source `folder`: pictures and masks on disk, found by glob patterns and matched by stem.

    patterns -> lists of the splits -> pairs (picture, mask) -> splits -> examples

Errors that concern the whole folder are reported before the first picture is decoded.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from stages.prepare.decoding import Decoded, Example, Labels, decode_pair
from stages.prepare.settings import FEW, MAX_CLASSES, FolderSource, OnDisk, has_colours, told
from stages.prepare.sources.files.lists import lines, lists
from stages.prepare.sources.files.pairs import Pair, pairs
from stages.prepare.sources.files.patterns import Found, matched
from stages.prepare.sources.files.splits import splits
from stages.shared.formats.pictures import BadPictureError
from stages.shared.runtime import carried
from stages.shared.runtime.console import counted, listed
from stages.shared.runtime.errors import UserError

Decoding = Callable[[], Decoded]
Note = Callable[[str], object]
# Pictures of each split that `check` decodes.
TRIED = 4


def labels(settings: FolderSource) -> Labels:
    """What stands in the masks.

    Raises:
        UserError: the text file of class names is missing, or has too few or too many.
    """
    names: dict[Any, str | None] = {}
    if isinstance(settings.classes, str):
        path = Path(settings.root, settings.classes)
        given = lines(settings, settings.classes, "dataset.classes")
        if empty := sorted(set(range(1, len(given) + 1)) - set(given)):
            raise UserError(
                f"{path}: line {empty[0]} is empty; it should name label {empty[0] - 1}"
            )
        if not 2 <= (count := len(set(given.values()))) <= MAX_CLASSES:
            raise UserError(
                f"{path} names {count} classes, one a line; it should name 2 to {MAX_CLASSES}"
            )
        names |= {number - 1: name for number, name in given.items()}
    else:
        names |= settings.classes
    names |= dict.fromkeys(settings.ignore)
    if not has_colours(settings):
        return Labels(names)
    return Labels({int(colour[1:], 16): name for colour, name in names.items()}, colours=True)


def check(settings: FolderSource, seed: int) -> None:
    """Find the mistakes that show before all is decoded; tell of splits that measure little.

    Args:
        settings: of the data set.
        seed: as of `examples`.

    Raises:
        UserError: as `examples`; or one of a few pictures of each split can't be used.
    """
    _, parts = found(settings, seed)
    require_usable(settings, labels(settings), of_pairs(settings, parts))


def require_usable(
    settings: OnDisk, table: Labels, examples: Mapping[str, Sequence[Example]]
) -> None:
    """Tell of splits that measure little, and decode some of each, as `prepare` would seconds
    later.

    Raises:
        UserError: names a split without pictures, or a picture that can't be used.
    """
    for split, part in examples.items():
        if not part:
            raise UserError(f"{told(settings, split)}, which leaves no picture")
        if len(part) < FEW:
            print(f"note: {split} has {counted(len(part), 'picture')}; its measures say little")
        if settings.bad_pictures == "skip":
            continue
        for example in part[:: max(1, len(part) // TRIED)][:TRIED]:
            try:
                table.indices(example.decode().mask)
            except BadPictureError as error:
                mask = f" (its mask is {example.mask})" if example.mask else ""
                raise UserError(
                    f"{example.name}: {error}{mask}; mend it, or set dataset.bad_pictures to skip"
                ) from None


def of_pairs(
    settings: FolderSource, parts: Mapping[str, Sequence[Pair]]
) -> dict[str, list[Example]]:
    """The examples of the pairs of each split."""
    return {
        split: [Example(p.picture, Decode(partial(contents, settings, p)), p.mask) for p in part]
        for split, part in parts.items()
    }


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
    every, parts = found(settings, seed, note=print)
    if unused := set(every).difference(*parts.values()):
        print(f"note: in no split: {listed(sorted(pair.picture for pair in unused))}")
    return of_pairs(settings, parts)


def found(
    settings: FolderSource, seed: int, note: Note | None = None
) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """All pairs, and those of each split; a note is called with what is left out.

    Raises:
        UserError: as `examples`.
    """
    pictures, masks = matched(Path(settings.root), settings.pictures, settings.masks)
    by_list = settings.splits.by == "list"
    listed_ones = lists(settings, pictures, masks) if by_list else {}
    every = pairs(settings, pictures, masks, listed_ones, note or (lambda text: None))
    if note and (missed := overlooked(settings, pictures, masks)):
        named = listed([f"{number:,} in {folder}/" for folder, number in sorted(missed.items())])
        note(f"note: neither dataset.pictures nor dataset.masks finds some files: {named}")
    return every, splits(settings, every, listed_ones, seed)


def overlooked(settings: FolderSource, pictures: Found, masks: Found) -> Counter[str]:
    """How many files have the suffix of a picture and are neither picture nor mask, by folder.

    Hidden ones do not count.
    """
    suffixes = {PurePosixPath(file).suffix for file in pictures}
    missed = Counter[str]()
    for folder, below, names in os.walk(settings.root, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        inside = PurePosixPath(Path(folder).relative_to(settings.root).as_posix())
        for name in names:
            file = str(inside / name)
            if PurePosixPath(name).suffix in suffixes and not name.startswith("."):
                missed[str(inside)] += file not in pictures and file not in masks
    return +missed


class Decode:
    """Reads a picture's files and decodes them. Pickled for another machine, it takes their
    content along.

    Args:
        read: the files; returns what decodes their content. Raises BadPictureError.
    """

    def __init__(self, read: Callable[[], "partial[Decoded]"]) -> None:
        self.read = read

    def __call__(self) -> Decoded:
        return self.read()()

    def __reduce__(self) -> tuple[Any, ...]:
        if not carried.elsewhere():
            return Decode, (self.read,)
        try:
            decode = self.read()
        except BadPictureError as error:
            return refused, (str(error),)
        return partial, (decode.func, *decode.args)


def contents(settings: FolderSource, pair: Pair) -> "partial[Decoded]":
    """What decodes the content of a pair's files.

    Raises:
        BadPictureError: a file can't be read, or there is no mask.
    """
    if pair.mask is None:
        raise BadPictureError("it has no mask")
    picture, mask = (content(Path(settings.root, file)) for file in (pair.picture, pair.mask))
    return partial(decode_pair, picture, mask, has_colours(settings), True, settings.greys)


def refused(reason: str) -> Decoding:
    """The decoding of a picture that can't be used."""

    def decode() -> Decoded:
        raise BadPictureError(reason)

    return decode


def content(path: Path) -> bytes:
    """What a file holds.

    Raises:
        BadPictureError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPictureError(f"{path} can't be read: {error.strerror}") from None
