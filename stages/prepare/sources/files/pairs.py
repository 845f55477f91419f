"""The pictures of a folder with their masks."""

from collections.abc import Callable
from typing import NamedTuple

from stages.prepare.settings import FolderSource
from stages.prepare.sources.files.lists import Listed
from stages.prepare.sources.files.patterns import Found, keys, partners
from stages.shared.runtime.console import listed
from stages.shared.runtime.errors import UserError


class Pair(NamedTuple):
    """A picture and its mask, as paths relative to the root; None for a picture without one."""

    picture: str
    mask: str | None


def pairs(
    settings: FolderSource,
    pictures: Found,
    masks: Found,
    lists: dict[str, list[Listed]],
    note: Callable[[str], object] = lambda text: None,
) -> list[Pair]:
    """The pictures with their masks, sorted by path.

    A mask is that of a list's line, or the one that has the picture's key (see `patterns.keys`).

    Args:
        settings: of the data set.
        pictures: that were found.
        masks: that were found.
        lists: those of the splits, if there are any; only the pictures there need a mask.
        note: is called with what is left out.

    Raises:
        UserError: names the files that have no partner, or that have the same.
    """
    lines = [line for part in lists.values() for line in part]
    mask_of = {line.picture: line.mask for line in lines if line.mask}
    if len(mask_of) < len(lines) or not lines:
        given = settings.pictures, settings.masks, pictures, masks
        mask_of = partners(*given) | mask_of
        if not mask_of:
            picture_keys, mask_keys = keys(*given)
            picture, mask = next(iter(pictures)), next(iter(masks))
            raise UserError(
                f"no picture has a mask: {picture} has the stem {picture_keys[picture][-1]!r}, "
                f"{mask} {mask_keys[mask][-1]!r}; {_where(settings)}"
            )
    wanted = {line.picture for line in lines} or pictures.keys()
    used = set(mask_of.values())
    bare = [file for file in pictures if file in wanted and file not in mask_of]
    spare = [] if lines else [file for file in masks if file not in used]
    for alone, partner in ((spare, "picture"), (bare, "mask")):
        if alone and settings.bad_pictures == "stop":
            raise UserError(
                f"no {partner} for {listed(alone)}; {_where(settings)}; to leave them out, set "
                "dataset.bad_pictures to skip"
            )
    if spare:
        note(f"note: no picture for {listed(spare)}; {_where(settings)}")
    return [Pair(file, mask_of.get(file)) for file in pictures]


def _where(settings: FolderSource) -> str:
    return f"looked for in {settings.root} as {settings.masks} and {settings.pictures}"
