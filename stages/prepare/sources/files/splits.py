"""Which pair of a folder is in which split."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from stages.prepare.settings import FractionSplits, OnDisk
from stages.prepare.sources.files.lists import Listed, named
from stages.prepare.sources.files.pairs import Pair
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS


def splits(
    settings: OnDisk, pairs: Sequence[Pair], lists: dict[str, list[Listed]], seed: int
) -> dict[str, list[Pair]]:
    """The pairs of each split, sorted.

    Args:
        settings: of the data set.
        pairs: all that there are.
        lists: those of the splits, if there are any.
        seed: draws the pictures of a split that is given as a share.

    Raises:
        UserError: a picture is in two splits, or in none of the folders.
    """
    group = settings.splits.group
    if isinstance(settings.splits, FractionSplits):
        shares = [getattr(settings.splits, split) for split in SPLITS]
        parts = dict(zip(SPLITS, drawn(pairs, shares, seed, group), strict=True))
    else:
        by_picture = {pair.picture: pair for pair in pairs}
        parts = (
            {split: [by_picture[line.picture] for line in lines] for split, lines in lists.items()}
            if settings.splits.by == "list"
            else _by_folder(settings, pairs)
        )
        share = settings.splits.validation
        if not isinstance(share, str):
            validation, train = drawn(parts["train"], [share, 1 - share], seed, group)
            parts |= {"validation": validation, "train": train}
    return {split: sorted(parts[split]) for split in SPLITS}


def drawn(
    pairs: Sequence[Pair], shares: Sequence[float], seed: int, group: str | None
) -> list[list[Pair]]:
    """Parts of `pairs` of these shares; the pairs of a group stay together.

    The order of the groups is that of a hash of seed and name, so that a picture that is added
    moves few others. A group is in the part that its middle lies in.
    """

    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        found = re.search(group, pair.picture) if group else None
        groups[found[0] if found else pair.picture].append(pair)

    def order(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode()).digest()

    ends = [round(end * len(pairs)) for end in np.cumsum(shares)]
    parts: list[list[Pair]] = [[] for _ in shares]
    taken = 0
    for name in sorted(groups, key=order):
        together = groups[name]
        middle = taken + len(together) / 2
        taken += len(together)
        if middle < ends[-1]:
            parts[int(np.searchsorted(ends, middle, side="right"))] += together
    return parts


def _by_folder(settings: OnDisk, pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    names = named(settings)
    parts: dict[str, list[Pair]] = {split: [] for split in names}
    for pair in pairs:
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
