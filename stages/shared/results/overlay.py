"""Class colours, masks laid over pictures, and figures as files."""

import math
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.shared.records.ignore_label import IGNORED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette for colour-blind readers; more classes, up to so many, repeat it in darker
# shades.
MOST_IN_PALETTE = 21
PALETTE = np.array(
    [
        (0, 114, 178),
        (230, 159, 0),
        (204, 121, 167),
        (0, 158, 115),
        (240, 228, 66),
        (213, 94, 0),
        (86, 180, 233),
    ],
    np.uint8,
)

# Beyond, even hues in these tones, (saturation, value).
TONES = ((0.95, 0.95), (0.55, 0.7), (0.95, 0.5), (0.4, 1.0), (1.0, 0.75))
GOLDEN = 0.618034


def colours(classes: int) -> np.ndarray:
    """A colour for each class, uint8 (classes, 3); none twice."""
    if classes > MOST_IN_PALETTE:
        count = math.ceil(classes / len(TONES))
        # In an order in which neighbours are far apart.
        hues = np.argsort(np.arange(count) * GOLDEN % 1) / count
        every = [hsv_to_rgb(hue, *tone) for hue in hues for tone in TONES]
        return (255 * np.array(every[:classes])).round().astype(np.uint8)
    rounds, entries = np.divmod(np.arange(classes), len(PALETTE))
    return (PALETTE[entries] * (0.6**rounds)[:, None]).astype(np.uint8)


def hex_colours(classes: int) -> list[str]:
    """The same as CSS has them, such as `#0072b2`."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours(classes)]


def overlay(image: np.ndarray, mask: np.ndarray, classes: int, opacity: float) -> np.ndarray:
    """Lay a mask over its picture.

    Args:
        image: uint8 (height, width, 3).
        mask: uint8 (height, width), values 0..classes-1, or `IGNORED`, which gets no colour.
        classes: their number.
        opacity: of the mask, 0 to 1.

    Returns:
        uint8 (height, width, 3). The picture is reduced to grey, so that every colour is a class.
    """
    every_grey = np.arange(256)[None, :, None]
    # A row more than classes, without colour, for what is ignored.
    shown = np.broadcast_to(every_grey, (classes + 1, 256, 3)).astype(np.float64)
    shown[:classes] += (colours(classes)[:, None] - shown[:classes]) * opacity
    shown[classes] = every_grey[0]
    grey = (image.sum(axis=-1, dtype=np.uint16) + 1) // 3
    return shown.round().astype(np.uint8)[np.where(mask == IGNORED, classes, mask), grey]


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    # Without `Software` Matplotlib would write its version into each picture.
    figure.savefig(path, dpi=100, format="png", metadata={"Software": None})
