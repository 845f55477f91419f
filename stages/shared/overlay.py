"""Class colours, and masks laid over pictures."""

import numpy as np

from stages.shared.dataset import IGNORED

# Okabe and Ito's palette, told apart by the colour-blind too; it repeats, darker, beyond its end.
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


def colours(classes: int) -> np.ndarray:
    """A colour for each class, uint8 (classes, 3)."""
    rounds, entries = np.divmod(np.arange(classes), len(PALETTE))
    return (PALETTE[entries] * (0.6**rounds)[:, None]).astype(np.uint8)


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
    grey = image.mean(axis=-1, keepdims=True)
    ignored = (mask == IGNORED)[..., None]
    colour = np.where(ignored, grey, colours(classes)[np.where(mask == IGNORED, 0, mask)])
    return (grey * (1 - opacity) + colour * opacity).round().astype(np.uint8)
