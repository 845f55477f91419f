"""Text files that lie beside pictures: lists of them, and names of classes."""

import re
from pathlib import Path


def lines(path: Path) -> list[str]:
    """The lines of a text file that say something; none if it can't be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in text.splitlines() if re.match(r"\s*[^#\s]", line)]
