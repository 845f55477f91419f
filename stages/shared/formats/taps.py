"""data/taps/BACKBONE.json: the taps of a backbone that are stored, as variants read them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from stages.shared.manifest import Manifest
from stages.shared.runtime.paths import TAPS_DIR


class StoredTaps(Manifest):
    """Which taps of a backbone are stored.

    Attributes:
        strides: of those that a variant with `train: head` reads, in pixels, ascending.
    """

    schema_version: Literal[1] = 1
    strides: tuple[int, ...]


def read_by(heads: Iterable[int], strides: Iterable[int]) -> StoredTaps:
    """The taps that heads read, of a backbone's.

    Args:
        heads: their strides; a head reads all taps that are no finer.
        strides: of the backbone's taps.
    """
    finest = min(heads, default=None)
    kept = () if finest is None else (stride for stride in strides if stride >= finest)
    return StoredTaps(strides=tuple(sorted(kept)))


def file(backbone: str) -> Path:
    """Where it is noted, by the backbone's name in params.yaml."""
    return TAPS_DIR / f"{backbone}.json"
