"""Facts about each picture of a data set, and warnings to look at before training."""

import math
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from stages.prepare.settings import FEW
from stages.shared.formats.pictures import scaled_size
from stages.shared.records.dataset import Dataset
from stages.shared.settings.section import SPLITS

# How many times as wide for its height as another a picture is, or as high for its width.
FAR_ASPECT = 2.0


# What may be a mistake in a picture's files, and what was made of it.
DOUBTS = {
    "unturned": "EXIF turns the picture, but its mask fits it unturned: it is taken unturned",
    "either": "EXIF turns a picture and not its mask or outlines, or the other way round, and they "
    "fit either way: where they do not lie on each other, remove the orientation from the file",
    "stale": "EXIF turns the mask, but it fits its picture unturned: it is taken unturned",
    "jpeg": "the mask is a JPEG, whose compression changes labels: save masks as PNG",
}


class Facts(NamedTuple):
    """One picture of a data set.

    Attributes:
        name: of the picture.
        split: that it is in.
        size: (height, width) in pixels, before it was fitted to the records.
        digest: of its pixels, once they are fitted.
        classes: indices of the classes in its record.
        doubts: keys of `DOUBTS`.
    """

    name: str
    split: str
    size: tuple[int, int]
    digest: str
    classes: list[int]
    doubts: tuple[str, ...] = ()


class Warning(NamedTuple):
    """A sentence, and the names of the pictures that it is about."""

    text: str
    pictures: list[str]


def warnings(facts: list[Facts], dataset: Dataset) -> list[Warning]:
    """What a user should look at; empty for a data set without a fault."""
    found = [
        *_across_splits(facts),
        *_absent_classes(dataset),
        *(
            Warning(text, [_place(fact) for fact in facts if doubt in fact.doubts])
            for doubt, text in DOUBTS.items()
        ),
        Warning(
            f"splits of fewer than {FEW} pictures: their measures say little",
            [f"{s}: {dataset.pictures(s)}" for s in SPLITS if dataset.pictures(s) < FEW],
        ),
        Warning(
            "masks of a single class",
            [_place(fact) for fact in facts if len(fact.classes) == 1],
        ),
        Warning(
            "masks of which every pixel is ignored",
            [_place(fact) for fact in facts if not fact.classes],
        ),
        _unusual(facts, dataset),
        Warning(
            "pictures left out, because dataset.bad_pictures is skip",
            [f"{left.split}: {left.name}: {left.reason}" for left in dataset.left_out],
        ),
    ]
    return [warning for warning in found if warning.pictures]


def _across_splits(facts: Iterable[Facts]) -> Iterable[Warning]:
    """Pictures of the same pixels in more than one split: what is learnt is then measured."""
    same: dict[tuple[str, tuple[int, int]], list[Facts]] = {}
    for fact in facts:
        same.setdefault((fact.digest, fact.size), []).append(fact)
    copies = [group for group in same.values() if len({fact.split for fact in group}) > 1]
    yield Warning(
        "the same picture in more than one split", [", ".join(map(_place, g)) for g in copies]
    )


def _absent_classes(dataset: Dataset) -> Iterable[Warning]:
    for split in SPLITS:
        absent = [name for name, share in dataset.pixel_share[split].items() if not share]
        yield Warning(f"classes without a pixel in the split {split}", absent)


def _unusual(facts: list[Facts], dataset: Dataset) -> Warning:
    text, found = UNUSUAL[dataset.fit]
    return Warning(
        text, [f"{_place(fact)}, {fact.size[1]} x {fact.size[0]}" for fact in found(facts, dataset)]
    )


def _small(facts: list[Facts], dataset: Dataset) -> list[Facts]:
    """Pictures with a side that is shorter than a tile's."""
    tile, scale = dataset.image_size, dataset.tiling.scale if dataset.tiling else None
    fitted = ((fact, scaled_size(fact.size, tile, dataset.fit, scale)) for fact in facts)
    return [fact for fact, size in fitted if size[0] < tile[0] or size[1] < tile[1]]


def _unlike_others(facts: list[Facts], _: Dataset) -> list[Facts]:
    """Pictures whose aspect is far from the median picture's."""
    return _far_from(median(_aspect(fact.size) for fact in facts), facts)


def _unlike_frame(facts: list[Facts], dataset: Dataset) -> list[Facts]:
    """Pictures whose aspect is far from that of the records."""
    return _far_from(_aspect(dataset.image_size), facts)


def _far_from(aspect: float, facts: list[Facts]) -> list[Facts]:
    far = math.log(FAR_ASPECT)
    return [fact for fact in facts if abs(math.log(_aspect(fact.size) / aspect)) > far]


def _aspect(size: tuple[int, int]) -> float:
    height, width = size
    return width / height


# By the fit, a sentence and the pictures that it is about.
UNUSUAL = {
    "stretch": ("pictures with an unusual aspect ratio: they will be squeezed", _unlike_others),
    "pad": ("pictures so long that more than half of the frame will be padding", _unlike_frame),
    "crop": ("pictures so long that more than half of them will be cut off", _unlike_frame),
    "tiles": ("pictures that are smaller than a tile: the rest of it will be padding", _small),
}


def _place(fact: Facts) -> str:
    return f"{fact.split}: {fact.name}"
