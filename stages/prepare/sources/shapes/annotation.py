"""What every format of annotations is read into."""

from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.prepare.sources.shapes.painting import Shape
from stages.shared.formats.pictures import Size
from stages.shared.runtime.errors import UserError


class Drawing(NamedTuple):
    """The shapes of a picture.

    Attributes:
        shapes: gives those of the names in a container; raises BadPictureError.
        size: (height, width) of the picture that they were drawn on; None: it isn't told.
    """

    shapes: Callable[[Container[str | None]], Sequence[Shape]]
    size: Size | None = None


class Annotated(NamedTuple):
    """The annotations of a data set.

    Attributes:
        names: of the categories that a shape has, in their order.
        drawings: by the picture's path; a picture without one is not annotated.
        missing: names of pictures that are annotated and not there.
    """

    names: list[str]
    drawings: dict[str, Drawing]
    missing: Sequence[str] = ()


def named(shapes: Sequence[Shape], names: Container[str | None]) -> list[Shape]:
    """Those of some shapes that have one of these names."""
    return [shape for shape in shapes if shape.name in names]


def read(path: Path) -> str:
    """The text of a file of annotations.

    Raises:
        UserError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path} can't be read: {reason}") from None
