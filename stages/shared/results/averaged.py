"""A network's mean over a picture's flip and several scales of it (test-time augmentation)."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from stages.shared.formats.pictures import resize_picture
from stages.shared.networks.compiled import Compiled

# The smallest probability that a mean is taken for, so that its logarithm is finite.
SMALLEST = 1e-7


def averages(flip: bool, scales: Sequence[float]) -> bool:
    """Whether a picture is seen otherwise than once as it is."""
    return flip or list(scales) != [1.0]


class Averaged:
    """A network that sees each picture several times; the mean of the probabilities counts.

    Args:
        network: of pictures, uint8 (batch, height, width, 3), to logits, float32 (batch, height,
            width, n * classes): those of n heads, one after the other.
        classes: of a head.
        flip: whether it also sees the pictures flipped horizontally.
        scales: of the pictures that it sees, 1 for their own size.
    """

    def __init__(
        self, network: keras.Model, classes: int, flip: bool, scales: Sequence[float]
    ) -> None:
        self.predict, self.classes = Compiled(network), classes
        self.flip, self.scales = flip, scales

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        """Logits, of the network's shape: logarithms of the mean probabilities.

        An enlarged batch goes through the network in parts that are as large as it was.
        """
        parts = min(len(pictures), math.ceil(max(1.0, *self.scales) ** 2))
        return np.concatenate([self._mean(part) for part in np.array_split(pictures, parts)])

    def _mean(self, pictures: np.ndarray) -> np.ndarray:
        height, width = pictures.shape[1:3]
        total: np.ndarray | float = 0.0
        for scale in self.scales:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            seen = pictures
            if size != (height, width):
                seen = np.stack([resize_picture(picture, size) for picture in pictures])
            for step in (1, -1) if self.flip else (1,):
                logits = self.predict(seen[:, :, ::step]).arrays()[:, :, ::step]
                if size != (height, width):
                    logits = resized(logits, (height, width))
                total = total + probabilities(logits, self.classes)
        mean = total / (len(self.scales) * (1 + self.flip))
        return np.log(np.maximum(mean, SMALLEST))


def probabilities(logits: np.ndarray, classes: int) -> np.ndarray:
    """Softmax over each run of `classes` along the last axis."""
    runs = logits.reshape(*logits.shape[:-1], -1, classes)
    exponentials = np.exp(runs - runs.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).reshape(logits.shape)


def resized(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Logits, float32 (batch, height, width, n), at another (height, width)."""
    pictures = np.moveaxis(logits, -1, 1)
    planes = [[resize_picture(plane, size) for plane in picture] for picture in pictures]
    return np.moveaxis(np.array(planes), 1, -1)
