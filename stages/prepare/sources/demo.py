"""Source `demo`: drawn pictures, so that the pipeline runs with nothing downloaded.

Textured shapes lie on cloudy ground. A shape's class shows in its outline, colour and texture
together; bars and rings are thinner than 32 pixels, so a coarse stride can't follow them.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages.prepare.decoding import Decoded, Example, Labels
from stages.prepare.settings import DemoSource
from stages.shared.formats.pictures import Size
from stages.shared.settings.section import SPLITS

CLASSES = ("ground", "disc", "ring", "bar", "tile")
# Mean colour (RGB, 0 to 255) and texture wavelength (pixels) of each class but the ground.
COLOURS = {
    "disc": (196, 84, 64),
    "ring": (64, 96, 190),
    "bar": (222, 190, 60),
    "tile": (150, 70, 170),
}
WAVELENGTHS = {"disc": 5.0, "ring": 9.0, "bar": 4.0, "tile": 12.0}
SHAPES_IN_A_PICTURE = (4, 8)


def labels(settings: DemoSource) -> Labels:
    """What stands in the masks."""
    return Labels(dict(enumerate(CLASSES)) | dict.fromkeys(settings.ignore))


def check(settings: DemoSource, seed: int) -> None:
    """Nothing: the settings are all there is."""


def files(settings: DemoSource) -> list[Path]:
    """The files that the pictures come from: none, they are drawn."""
    return []


def examples(settings: DemoSource, seed: int) -> dict[str, list[Example]]:
    """The pictures of each split; each is drawn from (seed, split, index) alone.

    Args:
        settings: of the data set.
        seed: non-negative; another seed draws other pictures.
    """
    return {
        split: [
            Example(
                f"{split}-{index:05d}", partial(_drawn, settings.image_size, (seed, part, index))
            )
            for index in range(getattr(settings.splits, split))
        ]
        for part, split in enumerate(SPLITS)
    }


def _drawn(size: Size, key: tuple[int, ...]) -> Decoded:
    return Decoded(*draw(size, key))


def draw(size: Size, key: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture and its mask.

    Args:
        size: (height, width) in pixels.
        key: seeds of the picture; the same key draws the same picture.

    Returns:
        uint8 (height, width, 3) RGB and uint8 (height, width).
    """
    rng = np.random.default_rng(key)
    image = _ground(size, rng)
    mask = np.zeros(size, np.uint8)
    for _ in range(rng.integers(*SHAPES_IN_A_PICTURE, endpoint=True)):
        label = int(rng.integers(1, len(CLASSES)))
        name = CLASSES[label]
        inside = _outline(name, size, rng)
        image[inside] = _texture(name, size, rng)[inside]
        mask[inside] = label
    image += rng.normal(0, 8, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def _ground(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Cloudy green-grey ground: waves of random direction, float (height, width, 3)."""
    y, x = np.mgrid[: size[0], : size[1]]
    clouds = np.zeros(size)
    for wavelength in (97, 61, 37, 23):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        along = x * np.cos(angle) + y * np.sin(angle)
        clouds += np.sin(2 * np.pi * along / wavelength + phase) / 4
    colour = np.array((96, 120, 92)) + rng.normal(0, 10, 3)
    return colour + 28 * clouds[..., None]


def _outline(name: str, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Which pixels a shape of class `name` covers, boolean (height, width)."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre_y, centre_x = rng.uniform(0.1 * np.array(size), 0.9 * np.array(size))
    angle = rng.uniform(0, np.pi)
    along = (x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)
    across = (y - centre_y) * np.cos(angle) - (x - centre_x) * np.sin(angle)
    radius = np.hypot(along, across)
    extent = rng.uniform(18, 34)
    match name:
        case "disc":
            return radius < extent
        case "ring":
            return np.abs(radius - extent) < 9
        case "bar":
            return (np.abs(along) < 2 * extent) & (np.abs(across) < 9)
        case _:
            return np.maximum(np.abs(along), np.abs(across)) < extent


def _texture(name: str, size: Size, rng: np.random.Generator) -> np.ndarray:
    """The shape's surface, everywhere: a checkered wave on its colour, float (height, width, 3)."""
    y, x = np.mgrid[: size[0], : size[1]]
    colour = np.array(COLOURS[name]) + rng.normal(0, 14, 3)
    phase_y, phase_x = rng.uniform(0, 2 * np.pi, 2)
    turn = 2 * np.pi / WAVELENGTHS[name]
    wave = np.sin(turn * y + phase_y) * np.sin(turn * x + phase_x)
    return colour + 40 * wave[..., None]
