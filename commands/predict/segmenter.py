"""Trained variants on pictures of any size: resized as in training, or as they are, tile by tile.

    picture -> resized -> network, in tiles if large -> logits -> picture's own size -> class maps

Variants whose heads stand on one frozen backbone are one network, in which it runs once. A network
expects objects at the size that they had in training, so by default a picture is resized as the
pictures that it was trained on.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from commands.predict.reach import reach
from stages.shared.formats import pictures
from stages.shared.formats.pictures import Size
from stages.shared.networks import heads, precision
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE
from stages.shared.networks.heads import HeadConfig
from stages.shared.results.averaged import Averaged, averages
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import MODELS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Precision

# Read around a tile of a network that sees more than a tile, in pixels; tiles then overlap by twice
# as much.
BLENDED = 256
# Side of the largest picture that goes through the network in one piece, in pixels.
TILE = 1536


class Tile(NamedTuple):
    """A part of a picture.

    Attributes:
        read: rows and columns that go through the network.
        kept: those of them whose result is kept, counted from the picture's corner.
    """

    read: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """`kept`, counted from the corner of `read`."""
        rows, columns = (
            slice(kept.start - read.start, kept.stop - read.start)
            for read, kept in zip(self.read, self.kept, strict=True)
        )
        return rows, columns


def trained_variants() -> list[str]:
    """The variants that have been trained, by name."""
    return sorted(path.parent.name for path in MODELS_DIR.glob("*/head.json"))


class Views(NamedTuple):
    """How a network sees a picture.

    Attributes:
        scale: of the picture on its way into the network; None for that of the training.
        flip: whether it is also seen flipped; the mean of the probabilities counts.
        scales: at which it is seen, times `scale`; the mean counts likewise.
        tile: side of the largest picture that goes through the network in one piece, in pixels.
    """

    scale: float | None = None
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    tile: int = TILE


# As the pictures that a network was trained on.
AS_TRAINED = Views()


def together(variants: Sequence[str], views: Views = AS_TRAINED) -> list["Segmenter"]:
    """Segmenters of some variants, one for those that stand on the same frozen backbone.

    Two entries of `backbones` may have the same weights and other taps.

    Raises:
        UserError: there is no such variant, they were trained on other classes or pictures of
            another size, or the tile is too small.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    expected = set()
    for variant in variants:
        head = trained(variant)
        groups.setdefault((head.backbone, head.backbone_weights), []).append(variant)
        expected.add((tuple(head.classes), head.image_size, head.fit, head.greys))
    if len(expected) > 1:
        raise UserError(
            f"{', '.join(variants)} were trained on other classes, or on pictures of another "
            "size, fit or greys, than each other; `dvc repro` trains all on the same"
        )
    return [Segmenter(group, views) for group in groups.values()]


def trained(variant: str) -> HeadConfig:
    """What a trained variant's head is.

    Raises:
        UserError: there is no such variant.
    """
    if variant not in trained_variants():
        known = ", ".join(trained_variants()) or "none; `dvc repro` trains them"
        raise UserError(f"{variant!r} is not a trained variant; models/ has {known}")
    return heads.load_config(MODELS_DIR / variant)


class Segmenter:
    """Trained variants on one backbone, for pictures of any size.

    Args:
        variants: their names.
        views: how they see a picture.

    Attributes:
        classes: their names.
        exact: whether tiles give what the picture in one piece would.

    Raises:
        UserError: there is no such variant, or the tile is too small.

    Example:
        >>> segment = Segmenter(["fcn16s", "fcn8s"])
        >>> segment(np.zeros((375, 500, 3), "uint8"))["fcn8s"].shape
        (375, 500)
    """

    def __init__(self, variants: Sequence[str], views: Views = AS_TRAINED) -> None:
        self.variants, self.views = list(variants), views
        self.head, *_ = map(trained, variants)
        self.classes = self.head.classes
        folder, *others = (MODELS_DIR / variant for variant in variants)
        policy = precision.policy(read("precision", Precision))
        network = heads.load_network(folder, policy, others)
        several = averages(views.flip, views.scales)
        # What goes through the network is as large as a tile times the largest scale.
        tile = int(views.tile / max(1.0, *views.scales))
        far = None if several else reach(network)
        averaged = Averaged(network, len(self.classes), views.flip, views.scales)
        self.network: keras.Model | Averaged = averaged if several else network
        self.exact = far is not None and 2 * far < tile
        self.margin = far if far is not None and self.exact else BLENDED
        self.core = (tile - 2 * self.margin) // COARSEST_STRIDE * COARSEST_STRIDE
        self.tile = self.core + 2 * self.margin
        if self.core <= 0:
            raise UserError(
                f"a tile of {tile} pixels is too small: it must cover {self.margin} pixels to "
                f"each side of what is kept; use {2 * self.margin + COARSEST_STRIDE} or more"
            )

    def __call__(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """By variant, the class map, uint8 (height, width), of a picture, uint8 (..., 3)."""
        return self.class_maps(self.resized(picture)[None], [picture.shape[:2]])[0]

    def decode(self, content: bytes) -> np.ndarray:
        """A picture's file, uint8 (height, width, 3).

        Raises:
            BadPictureError: it can't be used.
        """
        return pictures.decode_picture(content, self.head.greys)

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """A picture, uint8 (height, width, 3), at the size at which the network sees it."""
        size = picture.shape[:2]
        if self.views.scale is None:
            wanted = pictures.scaled_size(size, self.head.image_size, self.head.fit)
        else:
            wanted = tuple(max(1, round(side * self.views.scale)) for side in size)
        return picture if wanted == size else pictures.resize_picture(picture, wanted)

    def enlarged(self, picture: Size) -> float:
        """How many times as large as in training objects are in a picture of (height, width)."""
        trained = pictures.scaled_size(picture, self.head.image_size, self.head.fit)
        return (self.views.scale or 1.0) * math.sqrt(math.prod(picture) / math.prod(trained))

    def class_maps(self, inputs: np.ndarray, sizes: Sequence[Size]) -> list[dict[str, np.ndarray]]:
        """Segment some pictures.

        Args:
            inputs: what `resized` gave, uint8 (pictures, height, width, 3).
            sizes: the pictures' own (height, width).

        Returns:
            Of each picture, by variant, a class map of its size, uint8 (height, width).
        """
        if max(inputs.shape[1:3]) > self.tile:
            return [self._in_tiles(i, size) for i, size in zip(inputs, sizes, strict=True)]
        logits = self.network.predict_on_batch(inputs)
        return [self._class_maps(*pair) for pair in zip(logits, sizes, strict=True)]

    def _class_maps(self, logits: np.ndarray, size: Size) -> dict[str, np.ndarray]:
        """The class maps of the heads, whose logits lie one after the other."""
        of_heads = np.split(logits, len(self.variants), axis=-1)
        return {v: class_map(own, size) for v, own in zip(self.variants, of_heads, strict=True)}

    def _in_tiles(self, picture: np.ndarray, size: Size) -> dict[str, np.ndarray]:
        """Segment a picture that is too large for one piece."""
        wanted = picture.shape[:2]
        if not self.exact:
            return self._class_maps(self._blended(picture), size)
        # The logits of all of it are needed only if they are to be resized.
        whole = None if size == wanted else np.empty((*wanted, self._planes), np.float32)
        labels = {variant: np.empty(wanted, np.uint8) for variant in self.variants}
        for tile in tiles(wanted, self.core, self.margin):
            logits = self.network.predict_on_batch(picture[tile.read][None])[0][tile.inner]
            if whole is None:
                for variant, classes in self._class_maps(logits, logits.shape[:2]).items():
                    labels[variant][tile.kept] = classes
            else:
                whole[tile.kept] = logits
        return labels if whole is None else self._class_maps(whole, size)

    @property
    def _planes(self) -> int:
        """Logits of a pixel, of all heads."""
        return len(self.classes) * len(self.variants)

    def _blended(self, picture: np.ndarray) -> np.ndarray:
        """A picture's logits, float32 (height, width, logits): the tiles' mean by `window`."""
        size = picture.shape[:2]
        logits = np.zeros((*size, self._planes), np.float32)
        weights = np.zeros((*size, 1), np.float32)
        for tile in tiles(size, self.core, self.margin):
            share = window(tile, size, self.margin)
            logits[tile.read] += self.network.predict_on_batch(picture[tile.read][None])[0] * share
            weights[tile.read] += share
        logits /= weights
        return logits


def window(tile: Tile, size: Size, margin: int) -> np.ndarray:
    """What a tile counts for at each of its pixels, float32 (height, width, 1).

    1 in its middle, falling to 0 over the 2 * `margin` pixels that it shares with a neighbour, but
    not towards the sides of the picture, of (height, width) `size`.
    """
    sides = []
    for part, length in zip(tile.read, size, strict=True):
        places = np.arange(part.start, part.stop) + 0.5
        before = np.inf if part.start == 0 else (places - part.start) / (2 * margin)
        after = np.inf if part.stop == length else (part.stop - places) / (2 * margin)
        sides.append(np.minimum(np.ones_like(places), np.minimum(before, after)))
    rows, columns = sides
    return (rows[:, None] * columns)[..., None].astype(np.float32)


def tiles(size: Size, core: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover a picture.

    Args:
        size: (height, width) of the picture.
        core: side of what is kept of a tile, a multiple of the coarsest stride.
        margin: what is read around it, where there is a picture, a multiple of it too.
    """
    rows, columns = (
        [
            (
                slice(max(start - margin, 0), min(start + core + margin, length)),
                slice(start, min(start + core, length)),
            )
            for start in range(0, length, core)
        ]
        for length in size
    )
    for read_rows, kept_rows in rows:
        for read_columns, kept_columns in columns:
            yield Tile((read_rows, read_columns), (kept_rows, kept_columns))


def class_map(logits: np.ndarray, size: Size) -> np.ndarray:
    """The class of each pixel, once the logits are resized bilinearly.

    Class by class, so that a large picture's logits never lie in memory at its own size.

    Args:
        logits: float32 (height, width, classes).
        size: (height, width) of the result.

    Returns:
        uint8 (height, width).
    """
    if logits.shape[:2] == size:
        return logits.argmax(axis=-1).astype(np.uint8)
    best = np.full(size, -np.inf, np.float32)
    labels = np.zeros(size, np.uint8)
    for label, plane in enumerate(np.moveaxis(logits, -1, 0)):
        scores = pictures.resize_picture(plane, size)
        better = scores > best
        labels[better] = label
        np.maximum(best, scores, out=best)
    return labels
