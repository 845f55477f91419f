"""Augmentation of training pictures together with their masks."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from stages.train.settings import Augmentation

# Share of a picture's height and width that it may be moved by.
SHIFT = 0.1


def saturation(times: float) -> float:
    """What Keras's RandomSaturation calls a saturation of so many times a picture's own."""
    return times / (1 + times)


class RandomAugmentation:
    """Flips, scales and shifts pictures with their masks, and changes the pictures' colours.

    The layers are Keras's own. Pixels outside the frame are cropped, gaps are filled by
    reflection; masks take the nearest label.

    Args:
        settings: how much of each.

    Example:
        >>> augment = RandomAugmentation(Augmentation(flip=True, scale=0.2, colour=0.2))
        >>> pictures, masks = np.zeros((4, 64, 64, 3), "uint8"), np.zeros((4, 64, 64), "uint8")
        >>> pictures, masks = augment(pictures, masks, seed=(27, 0, 0))
    """

    def __init__(self, settings: Augmentation) -> None:
        self.layers: list[layers.Layer] = []
        if settings.flip:
            self.layers.append(layers.RandomFlip("horizontal"))
        if settings.scale:
            self.layers += [
                layers.RandomZoom((-settings.scale, settings.scale)),
                layers.RandomTranslation(SHIFT, SHIFT),
            ]
        if settings.colour:
            self.layers += [
                layers.RandomBrightness(settings.colour),
                layers.RandomContrast(settings.colour),
                layers.RandomSaturation(
                    (saturation(1 - settings.colour), saturation(1 + settings.colour))
                ),
            ]

    def __call__(
        self, pictures: np.ndarray, masks: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change a batch at random; the same seed gives the same change.

        Args:
            pictures: uint8 (pictures, height, width, 3).
            masks: uint8 (pictures, height, width).
            seed: non-negative integers.

        Returns:
            Pictures, float32, 0 to 255, and masks, uint8, of the same shapes.
        """
        seeds = keras.random.SeedGenerator(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        images = ops.convert_to_tensor(pictures, "float32")
        labels = ops.convert_to_tensor(masks[..., None], "float32")
        for layer in self.layers:
            change = layer.get_random_transformation(images, training=True, seed=seeds)
            images = layer.transform_images(images, change, training=True)
            labels = layer.transform_segmentation_masks(labels, change, training=True)
        images = ops.clip(images, 0, 255)
        return ops.convert_to_numpy(images), ops.convert_to_numpy(labels)[..., 0].astype(np.uint8)
