"""Source `annotations`: pictures with outlines of objects, as annotation tools write them.

    patterns -> annotations, of a format -> splits -> examples -> shapes, painted into masks

pycocotools rasterises them; larger libraries that read these formats hold all masks of a data set
in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from stages.prepare.decoding import Decoded, Example, Labels
from stages.prepare.settings import MAX_CLASSES, AnnotationsSource
from stages.prepare.sources import folder
from stages.prepare.sources.files.lists import lists
from stages.prepare.sources.files.pairs import Pair
from stages.prepare.sources.files.patterns import Found, matches
from stages.prepare.sources.files.splits import splits
from stages.prepare.sources.shapes import coco, labelme, yolo
from stages.prepare.sources.shapes.annotation import Annotated, Drawing
from stages.prepare.sources.shapes.painting import Shape, paint
from stages.shared.formats.pictures import (
    BadPictureError,
    Greys,
    Size,
    open_image,
    orientation,
    rgb,
    upright,
)
from stages.shared.runtime.console import listed
from stages.shared.runtime.errors import UserError

# Labels in a mask, by the names of categories; None: what is ignored.
Numbers = Mapping[str | None, int]

FORMATS: dict[str, Callable[[AnnotationsSource, Found, Found], Annotated]] = {
    "coco": coco.annotated,
    "yolo": yolo.annotated,
    "labelme": labelme.annotated,
}

files = folder.files


def labels(settings: AnnotationsSource) -> Labels:
    """What stands in the masks: 0 for what no shape covers, then the categories, then what is
    ignored.

    Raises:
        UserError: as `examples`, or there are too few or too many classes.
    """
    return table(settings, read(settings)[1])


def table(settings: AnnotationsSource, annotated: Annotated) -> Labels:
    """What stands in the masks of these annotations.

    Raises:
        UserError: there are too few or too many classes.
    """
    numbers = labels_of(settings, annotated.names)
    ignored = {None, *settings.ignore}
    named = {number: None if name in ignored else name for name, number in numbers.items()}
    found = Labels({0: settings.background} | named)
    if not 2 <= len(found.classes) <= MAX_CLASSES:
        raise UserError(
            f"{settings.root}/ has classes: {len(found.classes)}, with the background; there "
            f"should be 2 to {MAX_CLASSES}: name those that count in dataset.classes"
        )
    return found


def check(settings: AnnotationsSource, seed: int) -> None:
    """Find the mistakes that show before all is decoded; tell of splits that measure little.

    Args:
        settings: of the data set.
        seed: as of `examples`.

    Raises:
        UserError: as `examples`; or one of a few pictures of each split can't be used.
    """
    pictures, annotated = read(settings)
    _, parts = found(settings, pictures, annotated, seed)
    folder.require_usable(
        settings, table(settings, annotated), of_pairs(settings, annotated, parts)
    )


def examples(settings: AnnotationsSource, seed: int) -> dict[str, list[Example]]:
    """The pictures of each split, sorted by path, still encoded.

    Args:
        settings: of the data set.
        seed: draws the pictures of a split that is given as a share.

    Raises:
        UserError: names the pattern that matches nothing, the file and annotation at fault, or the
            pictures in two splits or in none.
    """
    pictures, annotated = read(settings)
    every, parts = found(settings, pictures, annotated, seed)
    if annotated.missing:
        print(f"note: annotated, but not among {settings.pictures}: {listed(annotated.missing)}")
    if bare := [picture for picture in pictures if picture not in annotated.drawings]:
        print(f"note: without annotations, left out: {listed(bare)}")
    if unused := set(every).difference(*parts.values()):
        print(f"note: in no split: {listed(sorted(pair.picture for pair in unused))}")
    return of_pairs(settings, annotated, parts)


def found(
    settings: AnnotationsSource, pictures: Found, annotated: Annotated, seed: int
) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """All pictures that are annotated, and those of each split.

    Raises:
        UserError: as `examples`.
    """
    by_list = settings.splits.by == "list"
    lines = {
        split: [line for line in part if line.picture in annotated.drawings]
        for split, part in (lists(settings, pictures, {}) if by_list else {}).items()
    }
    every = [Pair(picture, None) for picture in pictures if picture in annotated.drawings]
    return every, splits(settings, every, lines, seed)


def of_pairs(
    settings: AnnotationsSource, annotated: Annotated, parts: Mapping[str, Sequence[Pair]]
) -> dict[str, list[Example]]:
    """The examples of the pictures of each split."""
    numbers = labels_of(settings, annotated.names)
    return {
        split: [
            Example(
                path,
                folder.Decode(partial(contents, settings, path, annotated.drawings[path], numbers)),
            )
            for path, _ in part
        ]
        for split, part in parts.items()
    }


def read(settings: AnnotationsSource) -> tuple[Found, Annotated]:
    """The pictures that there are, and their annotations.

    Raises:
        UserError: as `examples`.
    """
    root = Path(settings.root)
    pictures = matches(root, "pictures", settings.pictures)
    found = matches(root, "annotations", settings.annotations)
    annotated = FORMATS[settings.format](settings, pictures, found)
    if not annotated.drawings:
        raise UserError(
            f"{listed(list(found))}: no picture of {settings.pictures} is annotated there"
        )
    for key, given in (("classes", settings.classes or []), ("ignore", settings.ignore)):
        if unknown := sorted(set(given) - set(annotated.names)):
            raise UserError(
                f"params.yaml: dataset.{key} names {', '.join(unknown)}, which no annotation has; "
                f"they have {', '.join(annotated.names)}"
            )
    if settings.classes:
        annotated = annotated._replace(names=settings.classes)
    return pictures, annotated


def labels_of(settings: AnnotationsSource, names: Sequence[str]) -> Numbers:
    """The label in a mask of each category, and of what is ignored."""
    every = dict.fromkeys([*names, *settings.ignore])
    return {name: number for number, name in enumerate([*every, None], start=1)}


def contents(
    settings: AnnotationsSource, path: str, drawing: Drawing, numbers: Numbers
) -> "partial[Decoded]":
    """What decodes the content of a picture's file, with its shapes.

    Args:
        settings: of the data set.
        path: of the picture.
        drawing: of it.
        numbers: labels in the mask, by the shapes' names; shapes of other names are left out.

    Raises:
        BadPictureError: the file can't be read, or a shape is none.
    """
    read = folder.content(Path(settings.root, path))
    return partial(painted, read, drawing.shapes(numbers), drawing.size, numbers, settings.greys)


def painted(
    content: bytes,
    shapes: Sequence[Shape],
    size: Size | None,
    numbers: Numbers,
    greys: Greys | None,
) -> Decoded:
    """A picture with the mask of its shapes, turned as its EXIF orientation says if they are.

    Raises:
        BadPictureError: the picture does not decode or is of another size, or a shape is none.
    """
    opened = open_image(content, "picture")
    image = upright(opened, "picture")
    wanted = size and size[::-1]
    turned = orientation(opened) != 1
    unturned = wanted == opened.size != image.size
    if unturned:
        image = opened
    if wanted and image.size != wanted:
        sizes = ["{} x {}".format(*pixels) for pixels in (wanted, image.size)]
        raise BadPictureError(f"its annotations are of {sizes[0]} pixels, the picture {sizes[1]}")
    mask = paint(shapes, (image.height, image.width), numbers)
    if unturned:
        doubts: tuple[str, ...] = ("unturned",)
    elif shapes and (wanted or opened.size) == opened.size and turned:
        doubts = ("either",)
    else:
        doubts = ()
    return Decoded(rgb(image, greys), mask, doubts)
