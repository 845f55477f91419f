"""What a run prints: a bar on a terminal, lines elsewhere."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

# How many files a message lists.
MOST_LISTED = 5


def bar(description: str, total: int | None, unit: str = "picture") -> tqdm:
    """A progress bar on standard error; nothing where that is no terminal.

    Args:
        description: stands before it.
        total: number of things; None where it is not known.
        unit: one of them.
    """
    return tqdm(desc=description, total=total, unit=unit, disable=None, dynamic_ncols=True)


def counted(number: int, noun: str) -> str:
    """A number of things, such as `1 picture` and `1,200 pictures`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(files: Sequence[str]) -> str:
    """Some files for a message, and how many more there are."""
    more = len(files) - MOST_LISTED
    return ", ".join(files[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def figures(number: float) -> str:
    """A number with three significant figures, such as `0.252` and `2,120`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def or_dash(value: float | None, text: Callable[[float], str]) -> str:
    """The text of a value; `-` where there is none."""
    return "-" if value is None else text(value)


def size(*paths: Path) -> str:
    """Size of some files and of all files in some folders, such as `12.3 MB`."""
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"
