"""What `predict` writes: masks, overlays, and tables of them."""

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from commands.predict.inputs import Loaded
from stages.shared.results.overlay import colours, hex_colours, overlay

# The table of all pictures, and its columns ahead of the classes'.
TABLE = "shares.csv"
COLUMNS = ("picture", "mask", "overlay", "width", "height")
# A file's name may be any bytes but two.
ANY_NAME = "surrogateescape"
OPACITY = 0.5
JPEG_QUALITY = 90


class Masks:
    """The masks of a variant and their table, in a folder."""

    def __init__(self, folder: Path, classes: list[str], stack: ExitStack) -> None:
        self.folder, self.classes = folder, classes
        folder.mkdir(parents=True, exist_ok=True)
        write_classes(folder / "classes.csv", classes)
        table = (folder / TABLE).open("w", newline="", encoding="utf-8", errors=ANY_NAME)
        self.file = stack.enter_context(table)
        self.table = csv.writer(self.file, lineterminator="\n")
        self.table.writerow([*COLUMNS, *classes])

    def add(self, picture: Loaded, mask: np.ndarray) -> None:
        """Write a picture's mask, and its row of the table."""
        write(self.folder, picture, mask, len(self.classes))
        shares = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
        target = picture.task.target
        written = f"{target}.png", "" if picture.picture is None else f"{target}.overlay.jpg"
        row = [picture.task.picture, *written, *mask.shape[::-1], *shares.round(6)]
        self.table.writerow(row)
        self.file.flush()


def remove_former(out: Path) -> None:
    """Remove the table in a folder, and what it says that an earlier run has written there."""
    table = out / TABLE
    # A spreadsheet may have saved it with a mark of its encoding, or in another.
    with table.open(newline="", encoding="utf-8-sig", errors=ANY_NAME) as file:
        rows = list(csv.reader(file))
    if rows and tuple(rows[0][: len(COLUMNS)]) == COLUMNS:
        for written in (out / name for row in rows[1:] for name in row[1:3] if name):
            if written.resolve().is_relative_to(out.resolve()):
                written.unlink(missing_ok=True)
    table.unlink()


def write(out: Path, picture: Loaded, mask: np.ndarray, classes: int) -> None:
    """Write a picture's mask, and its overlay if its pixels were kept."""
    target = out / picture.task.target
    target.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask, "P")
    image.putpalette(colours(classes).tobytes())
    _save(image, Path(f"{target}.png"), "PNG")
    if picture.picture is not None:
        shown = overlay(picture.picture, mask, classes, OPACITY)
        _save(Image.fromarray(shown), Path(f"{target}.overlay.jpg"), "JPEG", quality=JPEG_QUALITY)


def _save(image: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Write a picture atomically."""
    beside = path.with_name(f"{path.name}.new")
    image.save(beside, kind, **options)
    beside.replace(path)


def write_classes(path: Path, classes: list[str]) -> None:
    """Write classes.csv: what the values and colours of the masks stand for."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["value", "class", "colour"])
        for value, named in enumerate(zip(classes, hex_colours(len(classes)), strict=True)):
            writer.writerow([value, *named])
