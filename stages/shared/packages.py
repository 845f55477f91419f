"""The packages whose versions decide which bytes a stage writes."""

import sys
from importlib.metadata import version

NAMES = ("keras", "numpy", "pillow", "tensorflow")


def versions() -> list[str]:
    """Their versions, and Python's."""
    return [*(f"{name} {version(name)}" for name in NAMES), f"Python {sys.version.split()[0]}"]
