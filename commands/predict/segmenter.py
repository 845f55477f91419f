"""Trained variants on pictures of any size: resized as in training, or as they are, tile by tile.

    picture -> resized -> network, in tiles if large -> logits -> picture's own size -> class maps

Variants whose heads stand on one frozen backbone are one network, in which it runs once. A network
expects objects at the size that they had in training, so by default a picture is resized as the
pictures that it was trained on, and cut into the same tiles if these were.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from commands.predict.pieces import (
    SMALLEST_BLENDED,
    TILE,
    BlendedTiles,
    ExactTiles,
    Network,
    Pieces,
    TrainedTiles,
)
from commands.predict.reach import reach
from commands.trained import trained_variants
from stages.shared.formats import pictures
from stages.shared.formats.pictures import Size
from stages.shared.networks import heads, precision
from stages.shared.networks.heads import HeadConfig
from stages.shared.results.averaged import Averaged, averages
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import MODELS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Precision


class Views(NamedTuple):
    """How a network sees a picture.

    Attributes:
        scale: of the picture on its way into the network; None for that of the training.
        flip: whether it is also seen flipped; the mean of the probabilities counts.
        scales: at which it is seen, times `scale`; the mean counts likewise.
        tile: side of the largest picture that goes through the network in one piece, in pixels;
            None: the tiles of the training, or `TILE` if it had none.
    """

    scale: float | None = None
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    tile: int | None = None


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
        tiling = head.tiling and (head.tiling.scale, head.tiling.overlap)
        expected.add((tuple(head.classes), head.image_size, head.fit, tiling, head.greys))
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
        pieces: how a picture goes through the network.

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
        averaged = Averaged(network, len(self.classes), views.flip, views.scales)
        several = averages(views.flip, views.scales)
        self.network: Network = averaged if several else network
        self.pieces = way_through(network, self.head, views, len(self.variants))

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
            wanted = self._trained(size)
        else:
            wanted = tuple(max(1, round(side * self.views.scale)) for side in size)
        return picture if wanted == size else pictures.resize_picture(picture, wanted)

    def enlarged(self, picture: Size) -> float:
        """How many times as large as in training objects are in a picture of (height, width)."""
        trained = math.prod(self._trained(picture))
        return (self.views.scale or 1.0) * math.sqrt(math.prod(picture) / trained)

    def _trained(self, size: Size) -> Size:
        """The (height, width) that a picture of `size` would have had in training."""
        scale = self.head.tiling.scale if self.head.tiling else None
        return pictures.scaled_size(size, self.head.image_size, self.head.fit, scale)

    def class_maps(self, inputs: np.ndarray, sizes: Sequence[Size]) -> list[dict[str, np.ndarray]]:
        """Segment some pictures.

        Args:
            inputs: what `resized` gave, uint8 (pictures, height, width, 3).
            sizes: the pictures' own (height, width).

        Returns:
            Of each picture, by variant, a class map of its size, uint8 (height, width).
        """
        if not self.pieces.whole(inputs.shape[1:3]):
            return [self._in_tiles(i, size) for i, size in zip(inputs, sizes, strict=True)]
        logits = self.network.predict_on_batch(inputs)
        return [self._class_maps(*pair) for pair in zip(logits, sizes, strict=True)]

    def _class_maps(self, logits: np.ndarray, size: Size) -> dict[str, np.ndarray]:
        """The class maps of the heads, whose logits lie one after the other."""
        of_heads = np.split(logits, len(self.variants), axis=-1)
        return {v: class_map(own, size) for v, own in zip(self.variants, of_heads, strict=True)}

    def _in_tiles(self, picture: np.ndarray, size: Size) -> dict[str, np.ndarray]:
        """Segment a picture that does not go through in one piece."""
        wanted = picture.shape[:2]
        # The logits of all of it are needed only if they are to be resized.
        planes = len(self.classes) * len(self.variants)
        whole = None if size == wanted else np.empty((*wanted, planes), np.float32)
        labels = {variant: np.empty(wanted, np.uint8) for variant in self.variants}
        for place, logits in self.pieces.of(picture, self.network):
            if logits.shape[:2] == wanted:
                return self._class_maps(logits, size)
            if whole is None:
                for variant, classes in self._class_maps(logits, logits.shape[:2]).items():
                    labels[variant][place] = classes
            else:
                whole[place] = logits
        return labels if whole is None else self._class_maps(whole, size)


def way_through(network: keras.Model, head: HeadConfig, views: Views, variants: int) -> Pieces:
    """How pictures go through a network.

    Args:
        network: of a backbone and its heads.
        head: one of them.
        views: how it sees a picture.
        variants: how many heads there are.

    Raises:
        UserError: the tile is too small.
    """
    if head.tiling and views.tile is None:
        return TrainedTiles(head.image_size, head.tiling.overlap, variants)
    # What goes through the network is as large as a tile times the largest scale.
    largest = max(1.0, *views.scales)
    tile = int((views.tile or TILE) / largest)
    if averages(views.flip, views.scales) and tile < SMALLEST_BLENDED:
        if views.tile is not None:
            raise UserError(
                f"a tile of {views.tile} pixels is too small for a scale of {largest:g}; use "
                f"{math.ceil(SMALLEST_BLENDED * largest)} or more"
            )
        tile = SMALLEST_BLENDED
    far = None if averages(views.flip, views.scales) else reach(network)
    return BlendedTiles(tile) if far is None or 2 * far >= tile else ExactTiles(tile, far)


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
