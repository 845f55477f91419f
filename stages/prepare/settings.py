"""Section `dataset` of params.yaml: what all data sources have in common, and each one's own."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from stages.shared.settings.mistakes import shown
from stages.shared.settings.section import Count, Section, Splits, Text

SMALLEST_SIDE = 32
MAX_LABEL = 2**16 - 1
# Pictures of a split below which its mean IoU changes with each of them.
FEW = 10
# One value of a stored mask's byte stands for what is ignored.
MAX_CLASSES = 255
# Of tiles; more overlap makes a hundred records of what one shows.
MOST_OVERLAP, LARGEST_SCALE = 0.9, 4
# Where they are not given.
TILES = {"overlap": 0.25, "scale": 1.0}

Label = Annotated[int, Field(ge=0, le=MAX_LABEL)]
Colour = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]
Side = Annotated[int, Field(ge=SMALLEST_SIDE)]
Part = Annotated[float, Field(gt=0, lt=1)]


def _image_size(value: Any) -> tuple[int, int]:
    """Check `image_size`; one number is the side of a square."""
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or any(type(side) is not int or side < SMALLEST_SIDE for side in sides):
        raise ValueError(
            f"it is {shown(value)}; it should be one number of pixels, or [height, width], "
            f"none below {SMALLEST_SIDE}"
        )
    return sides[0], sides[1]


def _inside_root(path: str) -> str:
    """Check a path or pattern that is relative to `root`."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(
            f"it is {shown(path)}; it should be relative to dataset.root, and inside it"
        )
    return path


def _is(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _by_label(classes: dict[Any, str]) -> dict[Any, str]:
    """In the order of the labels: DVC compares mappings without their order."""
    return dict(sorted(classes.items()))


def _classes(value: Any) -> dict[int, str] | dict[str, str] | str:
    """Check a folder's `classes`."""
    if isinstance(value, str) and value:
        return _inside_root(value)
    if isinstance(value, list):
        value = dict(enumerate(value))
    mapping = _is(dict[Label, Text] | dict[Colour, Text], value)
    if not mapping or not 2 <= len(set(value.values())) <= MAX_CLASSES:
        raise ValueError(
            f"it is {shown(value)}; it should map labels (0 to {MAX_LABEL}), or colours (as "
            f"'#ff8000', in quotes), to the names of 2 to {MAX_CLASSES} classes, or list the names "
            "from label 0 on, or be the path of a text file with a name a line"
        )
    classes = {key.lower() if isinstance(key, str) else key: name for key, name in value.items()}
    if len(classes) < len(value):
        raise ValueError("a colour stands there twice, in capitals and in small letters")
    return _by_label(classes)


def _ignore(value: Any) -> list[int] | list[str]:
    """Check a folder's `ignore`."""
    if not _is(list[Label] | list[Colour], value):
        raise ValueError(
            f"it is {shown(value)}; it should be a list of labels (0 to {MAX_LABEL}) or of "
            "colours (as '#ff8000', in quotes)"
        )
    return [label.lower() if isinstance(label, str) else label for label in value]


def _fraction(value: Any) -> float:
    """Check a share of pictures."""
    if type(value) not in (int, float) or not 0 < value < 1:
        raise ValueError(
            f"it is {shown(value)}; it should be a share of the pictures, above 0 and below 1, "
            "such as 0.7"
        )
    return float(value)


def _validation(value: Any) -> float | str:
    """Check the validation split of a folder that is split by folder or by list."""
    return _inside_root(value) if isinstance(value, str) and value else _fraction(value)


def _group(value: Any) -> str | None:
    """Check a regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"it is {shown(value)}, which is no regular expression: {error}") from None
    return value


# `json_schema_input_type` is what a user may write, for docs/parameters.md.
Fraction = Annotated[float, BeforeValidator(_fraction, json_schema_input_type=Part)]
ImageSize = Annotated[
    tuple[int, int],
    BeforeValidator(_image_size, json_schema_input_type=Side | tuple[Side, Side]),
]
Group = Annotated[Text, AfterValidator(_group)] | None
# Lists in YAML.
Grey = Annotated[float, Field(strict=False, allow_inf_nan=False)]
Greys = Annotated[tuple[Grey, Grey], Field(strict=False)]
InsideRoot = Annotated[Text, AfterValidator(_inside_root)]


class Source(Section):
    """What every data source has in common.

    Attributes:
        root: folder that is a dependency of `prepare`: the pictures of `folder` and `annotations`,
            the archives of `tfds`. The demo does not read it.
        image_size: (height, width) of the pictures in the records, in pixels.
        fit: how a picture is brought to this size: `stretch` changes the aspect ratio; `pad` keeps
            it, borders are ignored; `crop` keeps it and the middle of the picture; `tiles` cuts the
            picture into records of this size, which metrics put together again.
        overlap: with `tiles`, the share of a tile's side that its neighbour has as well, at least;
            null: 0.25.
        scale: with `tiles`, that of the picture that is cut; null: 1, its own.
        shard_size: pictures, or tiles, in one file of records (and of features); fewer if they
            would take more than 512 MB.
        bad_pictures: `stop` fails on a picture that can't be used, `skip` leaves it out and
            lists it in dataset.json.
        ignore: labels in the masks; no loss and no metric counts their pixels.
    """

    root: Text
    image_size: ImageSize
    fit: Literal["stretch", "pad", "crop", "tiles"] = "stretch"
    overlap: Annotated[float, Field(ge=0, le=MOST_OVERLAP)] | None = None
    scale: Annotated[float, Field(gt=0, le=LARGEST_SCALE)] | None = None
    shard_size: Count
    bad_pictures: Literal["stop", "skip"]
    ignore: Annotated[list[Label], Field(default_factory=list)]

    @model_validator(mode="after")
    def _ignored_labels_are_no_classes(self) -> Self:
        classes = getattr(self, "classes", None) or ()
        if both := [label for label in self.ignore if label in classes]:
            raise ValueError(f"ignore and classes both hold {both}; remove them from one")
        return self

    @model_validator(mode="before")
    @classmethod
    def _tiles_overlap(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("fit") == "tiles":
            return given | {k: v for k, v in TILES.items() if given.get(k) is None}
        return given

    @model_validator(mode="after")
    def _nothing_else_overlaps(self) -> Self:
        given = [key for key in TILES if getattr(self, key) is not None]
        if given and self.fit != "tiles":
            raise ValueError(f"{given[0]} is for fit: tiles, and fit is {self.fit}")
        return self


class Counts(Splits[Count]):
    """Numbers of pictures. A class with a name can be pickled."""


class Expressions(Splits[Text]):
    """Split expressions of TFDS."""


class DemoSource(Source):
    """The built-in generator.

    Attributes:
        splits: number of pictures to draw.
    """

    source: Literal["demo"]
    splits: Counts


class TfdsSource(Source):
    """A TensorFlow Datasets data set with a picture and a mask feature.

    Attributes:
        name: the data set, with its config and version if wanted (`oxford_iiit_pet:4.0.0`).
        splits: a TFDS split expression, such as `train[:85%]`.
        image: the picture's feature key.
        mask: the mask's feature key.
        classes: label in the masks to class name.
        data_dir: where TFDS keeps prepared data sets; null for its default.
        manual_dir: folder with archives that were downloaded by hand; TFDS checks their checksums.
    """

    source: Literal["tfds"]
    name: Text
    splits: Expressions
    image: str
    mask: str
    classes: Annotated[
        dict[Label, Text],
        Field(min_length=2, max_length=MAX_CLASSES),
        AfterValidator(_by_label),
    ]
    data_dir: str | None
    manual_dir: str | None


class FractionSplits(Splits[Fraction]):
    """Shares of all pictures, drawn with `seed`; what they leave is not used.

    Attributes:
        train: share of the pictures.
        validation: the same.
        test: the same; the three add up to 1 at most.
        group: a regular expression; pictures in whose paths it matches the same text, such as the
            folder of a video, are in one split. null: each picture by itself.
    """

    by: Literal["fraction"]
    group: Group = None

    @model_validator(mode="after")
    def _at_most_everything(self) -> Self:
        if (total := self.train + self.validation + self.test) > 1 + 1e-9:
            raise ValueError(f"train, validation and test add up to {total:g}, which is above 1")
        return self


class NamedSplits(Section):
    """A folder's name in each picture's path, or a text file that lists pictures, for each split.

    Attributes:
        train: the folder's name, or the list's path.
        validation: the same, or a share of the training pictures, drawn with `seed`.
        test: as `train`.
        group: as for shares, where `validation` is one.
    """

    by: Literal["folder", "list"]
    group: Group = None
    train: InsideRoot
    validation: Annotated[
        float | str, BeforeValidator(_validation, json_schema_input_type=Part | Text)
    ]
    test: InsideRoot

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        names = [self.train, self.validation, self.test]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} stands for two splits, so they would share pictures")
        return self


class OnDisk(Source):
    """What the sources have in common whose pictures lie in a folder. All paths are relative to
    `root`.

    Attributes:
        pictures: a glob pattern, `**` for any number of folders, `{a,b}` for one of several.
        splits: which picture is in which.
        greys: [black, white], the values of a grey picture of more than 8 bits between which it is
            scaled, such as [0, 4095]; null: such pictures can't be used.
    """

    pictures: InsideRoot
    splits: Annotated[FractionSplits | NamedSplits, Field(discriminator="by")]
    greys: Greys | None = None

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.greys and self.greys[0] >= self.greys[1]:
            raise ValueError(f"greys is {list(self.greys)}; black should be below white")
        return self


class FolderSource(OnDisk):
    """Pictures and masks on disk. All paths are relative to `root`.

    Attributes:
        pictures: a glob pattern, `**` for any number of folders, `{a,b}` for one of several. It
            may find all masks too; these are then no pictures.
        masks: a glob pattern. A mask belongs to the picture of the same stem: what stands for `*`
            in the file's name, without its extension.
        classes: labels or colours in the masks to class names; those with the same name are one
            class, and the first label decides its place among the classes. Or the names in a list,
            or in a text file with one per line, from label 0.
        ignore: labels or colours; no loss and no metric counts their pixels.
    """

    source: Literal["folder"]
    masks: InsideRoot
    classes: Annotated[
        dict[int, str] | dict[str, str] | str,
        BeforeValidator(
            _classes,
            json_schema_input_type=dict[Label, Text] | dict[Colour, Text] | list[Text] | Text,
        ),
    ]
    # A folder's labels may be colours.
    ignore: Annotated[  # type: ignore[assignment]
        list[int] | list[str],
        BeforeValidator(_ignore, json_schema_input_type=list[Label] | list[Colour]),
        Field(default_factory=list),
    ]

    @model_validator(mode="after")
    def _ignored_labels_are_of_the_same_kind(self) -> Self:
        colours = has_colours(self)
        if any(isinstance(label, str) != colours for label in self.ignore):
            kinds = ("labels", "colours") if colours else ("colours", "labels")
            raise ValueError("ignore holds {}, classes {}; both must be alike".format(*kinds))
        return self


class AnnotationsSource(OnDisk):
    """Pictures on disk with outlines of objects, as annotation tools write them. All paths are
    relative to `root`.

    Attributes:
        format: of the annotations: `coco` (JSON, with polygons or run lengths), `yolo` (a text file
            of polygons for each picture, names in a YAML file) or `labelme` (a JSON for each
            picture).
        annotations: a glob pattern of their files.
        background: the class of what no shape covers; null: it is ignored.
        classes: names of the categories that are used, in this order; those of the others are as if
            they were not there. null: all that a shape has.
        ignore: names of categories; no loss and no metric counts their pixels, nor those of what
            COCO marks as a crowd.
    """

    source: Literal["annotations"]
    format: Literal["coco", "yolo", "labelme"]
    annotations: InsideRoot
    background: Text | None = "background"
    classes: Annotated[list[Text], Field(min_length=1)] | None = None
    # Categories have names.
    ignore: Annotated[list[Text], Field(default_factory=list)]  # type: ignore[assignment]


def has_colours(settings: FolderSource) -> bool:
    """Whether a folder's masks hold colours, not labels."""
    return isinstance(settings.classes, dict) and isinstance(next(iter(settings.classes)), str)


AnySource = Annotated[
    DemoSource | FolderSource | AnnotationsSource | TfdsSource, Field(discriminator="source")
]


def told(settings: AnySource | OnDisk, split: str) -> str:
    """How a message begins that is about a split: with its key in params.yaml, and its value."""
    return f"params.yaml: dataset.splits.{split} is {getattr(settings.splits, split)!r}"
