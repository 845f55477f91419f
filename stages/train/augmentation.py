"""Augmentation of training pictures together with their masks, inside the compiled step.

Flips, a zoom, a shift and a crop act on each axis by itself, so a picture is resampled by its rows
and then by its columns, and its colours change by one matrix: on a CPU a tenth of the time of
Keras's layers, which resample once for each change and go through hue and saturation. A rotation
does not: it looks each pixel up.
"""

import math

import keras
from keras import KerasTensor, layers, ops

from stages.train import distribution
from stages.train.settings import Augmentation

# Share of a picture's height and width that it may be moved by.
SHIFT = 0.1
# Of red, green and blue, in the grey that an eye sees (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


class RandomAugmentation(layers.Layer):
    """Rotates, flips, zooms, shifts and crops pictures with their masks, and changes the pictures'
    colours.

    What lies outside the frame is cropped, gaps are filled by reflection; masks take the nearest
    label.

    Shapes: pictures (batch, height, width, 3), 0 to 255, and masks, integer (batch, height, width),
    to pictures, float32, 0 to 255, and masks, of the same height and width or those of the crop.

    Args:
        settings: how much of each.
        seed: of the random numbers; their state is a variable of the layer.

    Example:
        >>> augment = RandomAugmentation(Augmentation(flip=True, scale=0.2, colour=0.2), seed=27)
        >>> pictures, masks = np.zeros((4, 64, 64, 3), "uint8"), np.zeros((4, 64, 64), "uint8")
        >>> pictures, masks = augment(pictures, masks)
    """

    def __init__(self, settings: Augmentation, seed: int) -> None:
        super().__init__(name="augmentation", autocast=False)
        self.settings = settings
        self.seeds = keras.random.SeedGenerator(seed)
        # It has no weights, and Keras warns of layers that are built in the first step.
        self.built = True

    def call(self, pictures: KerasTensor, masks: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
        settings = self.settings
        if settings.rotation:
            pictures, masks = self._rotated(ops.cast(pictures, "float32"), masks)
        if settings.flip or settings.vertical_flip or settings.scale or settings.crop:
            batch, height, width, channels = ops.shape(pictures)
            high, wide = settings.crop or (height, width)
            rows, columns = self._sources(batch, height, width)
            x = resampled(ops.reshape(pictures, (batch, height, width * channels)), rows)
            x = ops.transpose(ops.reshape(x, (batch, high, width, channels)), (0, 2, 1, 3))
            x = resampled(ops.reshape(x, (batch, width, high * channels)), columns)
            pictures = ops.transpose(ops.reshape(x, (batch, wide, high, channels)), (0, 2, 1, 3))
            masks = ops.transpose(taken(masks, nearest(rows)), (0, 2, 1))
            masks = ops.transpose(taken(masks, nearest(columns)), (0, 2, 1))
        pictures = ops.cast(pictures, "float32")
        return self._recoloured(pictures) if settings.colour else pictures, masks

    def _rotated(
        self, pictures: KerasTensor, masks: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor]:
        """Turned about the middle of the picture."""
        batch, height, width, _ = ops.shape(pictures)
        angle = self._uniform(batch, math.radians(self.settings.rotation))[:, :, None]
        cos, sin = ops.cos(angle), ops.sin(angle)
        y = ops.arange(height, dtype="float32")[None, :, None] - (height - 1) / 2
        x = ops.arange(width, dtype="float32")[None, None, :] - (width - 1) / 2
        rows = reflected(sin * x + cos * y + (height - 1) / 2, height)
        columns = reflected(cos * x - sin * y + (width - 1) / 2, width)
        labels = pixels(masks[..., None], nearest(rows), nearest(columns))[..., 0]
        return interpolated(pictures, rows, columns), labels

    def _sources(self, batch: int, height: int, width: int) -> tuple[KerasTensor, KerasTensor]:
        """For each row and each column, where in the picture it comes from: (batch, length)."""
        settings = self.settings
        zoom = 1 + self._uniform(batch, settings.scale)
        flips, axes = (settings.vertical_flip, settings.flip), []
        for flip, length, crop in zip(
            flips, (height, width), settings.crop or (height, width), strict=True
        ):
            seen = self._flipped(zoom) if flip else zoom
            spare = (length - crop) / (2 * length)
            shift = self._uniform(batch, (SHIFT if settings.scale else 0.0) + spare)
            axes.append(source(length, crop, seen, shift))
        rows, columns = axes
        return rows, columns

    def _flipped(self, zoom: KerasTensor) -> KerasTensor:
        """The other way round for half of the pictures."""
        return ops.where(self._uniform(ops.shape(zoom)[0], 1.0) < 0, -zoom, zoom)

    def _recoloured(self, pictures: KerasTensor) -> KerasTensor:
        """Pictures of another brightness, contrast and saturation.

        A colour x becomes c (s x + (1 - s) grey(x) - m) + m + b, m being the picture's mean.
        """
        batch, height, width, channels = ops.shape(pictures)
        colour = self.settings.colour
        brightness = 255 * self._uniform(batch, colour)
        contrast, saturation = (1 + self._uniform(batch, colour) for _ in range(2))
        pixels = ops.reshape(pictures, (batch, height * width, channels))
        mean = ops.mean(pixels, axis=(1, 2))[:, None]
        grey = ops.broadcast_to(ops.array(LUMA, "float32")[:, None], (channels, channels))
        saturation = saturation[:, :, None]
        matrix = contrast[:, :, None] * (
            saturation * ops.eye(channels)[None] + (1 - saturation) * grey[None]
        )
        offset = (1 - contrast) * mean + brightness
        changed = ops.clip(ops.matmul(pixels, matrix) + offset[:, :, None], 0, 255)
        return ops.reshape(changed, (batch, height, width, channels))

    def _uniform(self, batch: int, most: float) -> KerasTensor:
        """A number between -most and most for each picture, (batch, 1)."""
        # Each of several devices draws for all, and takes its own.
        several, number = distribution.replicas(), distribution.replica()
        drawn = keras.random.uniform((several * batch, 1), -most, most, seed=self.seeds)
        return drawn[number * batch : (number + 1) * batch] if several > 1 else drawn


def source(length: int, crop: int, zoom: KerasTensor, shift: KerasTensor) -> KerasTensor:
    """Where the places of an axis come from, in pixels, reflected into the picture.

    Args:
        length: of the picture's axis.
        crop: of the places, about the middle of the picture.
        zoom: (batch, 1), how much of the picture is seen; below 0, the other way round.
        shift: (batch, 1), share of the axis.

    Returns:
        float32 (batch, crop), 0 to `length - 1`.
    """
    middle = (length - 1) / 2
    places = ops.arange(crop, dtype="float32")[None] - (crop - 1) / 2
    return reflected(zoom * places + middle + length * shift, length)


def reflected(places: KerasTensor, length: int) -> KerasTensor:
    """Places of an axis, in pixels, those beyond its ends reflected into it."""
    # A picture reflected at the centres of its outermost pixels has a period of twice its length.
    period = max(2 * (length - 1), 1)
    found = ops.mod(places, float(period))
    return ops.minimum(ops.minimum(found, period - found), float(length - 1))


def pixels(x: KerasTensor, rows: KerasTensor, columns: KerasTensor) -> KerasTensor:
    """Pixels of each picture, (batch, height, width, values), at places, int32 (batch, ...)."""
    batch, height, width, values = ops.shape(x)
    chosen = ops.reshape(rows * width + columns, (batch, -1))
    found = taken(ops.reshape(x, (batch, height * width, values)), chosen)
    return ops.reshape(found, (*ops.shape(rows), values))


def interpolated(x: KerasTensor, rows: KerasTensor, columns: KerasTensor) -> KerasTensor:
    """Pixels of each picture, (batch, height, width, values), bilinearly between places, (batch,
    ...)."""
    _, height, width, _ = ops.shape(x)
    top, left = (ops.cast(ops.floor(places), "int32") for places in (rows, columns))
    bottom, right = ops.minimum(top + 1, height - 1), ops.minimum(left + 1, width - 1)
    down = (rows - ops.floor(rows))[..., None]
    across = (columns - ops.floor(columns))[..., None]

    def between(y: KerasTensor) -> KerasTensor:
        one, other = pixels(x, y, left), pixels(x, y, right)
        return one + (other - one) * across

    above, below = between(top), between(bottom)
    return above + (below - above) * down


def nearest(places: KerasTensor) -> KerasTensor:
    """The pixels that are nearest to some places."""
    return ops.cast(ops.floor(places + 0.5), "int32")


def taken(x: KerasTensor, chosen: KerasTensor) -> KerasTensor:
    """Rows of each picture, (batch, length, ...), by their numbers, (batch, rows)."""
    batch, length, *rest = ops.shape(x)
    first = length * ops.arange(batch, dtype="int32")[:, None]
    flat = ops.take(ops.reshape(x, (batch * length, *rest)), ops.reshape(first + chosen, (-1,)), 0)
    return ops.reshape(flat, (batch, -1, *rest))


def resampled(x: KerasTensor, places: KerasTensor) -> KerasTensor:
    """Rows of each picture, (batch, length, values), interpolated at places, (batch, rows).

    Returns:
        float32 (batch, rows, values).
    """
    before = ops.floor(places)
    upper = ops.cast(before, "int32")
    lower = ops.minimum(upper + 1, ops.shape(x)[1] - 1)
    share = (places - before)[:, :, None]
    above, below = (ops.cast(taken(x, rows), "float32") for rows in (upper, lower))
    return above + (below - above) * share
