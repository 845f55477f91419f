"""Source `annotations`: pictures with outlines of objects, as annotation tools write them.

    patterns -> annotations, of a format -> splits -> examples -> shapes, painted into masks

pycocotools rasterises them; larger libraries that read these formats hold all masks of a data set
in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.prepare.decoding import Decoded, Example, Labels
from stages.prepare.settings import FEW, AnnotationsSource
from stages.prepare.sources import folder
from stages.prepare.sources.files.lists import lists
from stages.prepare.sources.files.pairs import Pair
from stages.prepare.sources.files.patterns import Found, listed, matches
from stages.prepare.sources.files.splits import splits
from stages.prepare.sources.shapes import coco, labelme, yolo
from stages.prepare.sources.shapes.annotation import Annotated, Drawing
from stages.prepare.sources.shapes.painting import Shape, paint
from stages.shared.formats.pictures import BadPictureError, Greys, Size, open_image, rgb, upright
from stages.shared.runtime.console import counted
from stages.shared.runtime.errors import UserError

# Labels in a mask, by the names of categories; None: what is ignored.
Numbers = Mapping[str | None, int]

FORMATS: dict[str, Callable[[AnnotationsSource, Found, Sequence[str]], Annotated]] = {
    "coco": coco.annotated,
    "yolo": yolo.annotated,
    "labelme": labelme.annotated,
}

files = folder.files


def labels(settings: AnnotationsSource) -> Labels:
    """What stands in the masks: 0 for what no shape covers, then the categories, then what is
    ignored."""
    numbers = labels_of(settings, read(settings)[1].names)
    ignored = {None, *settings.ignore}
    named = {number: None if name in ignored else name for name, number in numbers.items()}
    return Labels({0: settings.background} | named)


def check(settings: AnnotationsSource) -> None:
    """Find the mistakes that show before all is decoded; tell of splits that measure little.

    Raises:
        UserError: as `examples`; or one of a few pictures of each split can't be used.
    """
    for split, part in examples(settings, seed=0).items():
        if len(part) < FEW:
            print(f"note: {split} has {counted(len(part), 'picture')}; its measures say little")
        if settings.bad_pictures == "stop":
            for example in part[:: max(1, len(part) // folder.TRIED)][: folder.TRIED]:
                try:
                    example.decode()
                except BadPictureError as error:
                    raise UserError(
                        f"{example.name}: {error}; mend it, or set dataset.bad_pictures to skip"
                    ) from None


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
    numbers = labels_of(settings, annotated.names)
    if bare := [picture for picture in pictures if picture not in annotated.drawings]:
        print(f"note: without annotations, left out: {listed(bare)}")
    pairs = [Pair(picture, None) for picture in pictures if picture in annotated.drawings]
    by_list = settings.splits.by == "list"
    found = {pair.picture: pictures[pair.picture] for pair in pairs}
    listed_ones = lists(settings, found, {}) if by_list else {}
    return {
        split: [
            Example(path, Decode(settings, path, annotated.drawings[path], numbers))
            for path, _ in part
        ]
        for split, part in splits(settings, pairs, listed_ones, seed).items()
    }


def read(settings: AnnotationsSource) -> tuple[Found, Annotated]:
    """The pictures that there are, and their annotations.

    Raises:
        UserError: as `examples`.
    """
    root = Path(settings.root)
    pictures = matches(root, "pictures", settings.pictures)
    found = matches(root, "annotations", settings.annotations)
    annotated = FORMATS[settings.format](settings, pictures, list(found))
    if not annotated.drawings:
        raise UserError(
            f"{listed(list(found))}: no picture of {settings.pictures} is annotated there"
        )
    if settings.classes:
        if unknown := sorted({*settings.classes, *settings.ignore} - set(annotated.names)):
            raise UserError(
                f"params.yaml: dataset.classes names {', '.join(unknown)}, which no annotation "
                f"has; they have {', '.join(annotated.names)}"
            )
        annotated = annotated._replace(names=[*settings.classes, *settings.ignore])
    return pictures, annotated


def labels_of(settings: AnnotationsSource, names: Sequence[str]) -> Numbers:
    """The label in a mask of each category, and of what is ignored."""
    every = dict.fromkeys([*names, *settings.ignore])
    return {name: number for number, name in enumerate([*every, None], start=1)}


class Decode:
    """Reads a picture and paints its mask. Pickled, for another machine, it takes both along.

    Args:
        settings: of the data set.
        path: of the picture.
        drawing: of it.
        numbers: labels in the mask, by the shapes' names; shapes of other names are left out.
    """

    def __init__(
        self, settings: AnnotationsSource, path: str, drawing: Drawing, numbers: Numbers
    ) -> None:
        self.path, self.drawing, self.numbers = Path(settings.root, path), drawing, numbers
        self.greys = settings.greys

    def __call__(self) -> Decoded:
        return self._of_contents()()

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            decode = self._of_contents()
        except BadPictureError as error:
            return folder.refused, (str(error),)
        return partial, (decode.func, *decode.args)

    def _of_contents(self) -> "partial[Decoded]":
        given = folder.content(self.path), self.drawing.shapes(), self.drawing.size
        return partial(painted, *given, self.numbers, self.greys)


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
    unturned = wanted == opened.size != image.size
    if unturned:
        image = opened
    if wanted and image.size != wanted:
        sizes = ["{} x {}".format(*pixels) for pixels in (wanted, image.size)]
        raise BadPictureError(f"its annotations are of {sizes[0]} pixels, the picture {sizes[1]}")
    own = [shape for shape in shapes if shape.name in numbers]
    mask = paint(own, (image.height, image.width), numbers)
    return Decoded(rgb(image, greys), mask, ("unturned",) if unturned else ())
