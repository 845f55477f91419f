"""What a network expects of a picture: colours around zero, and sides that its strides divide."""

from typing import Any, NamedTuple

import keras
from keras import KerasTensor, layers, ops

# Of a tensor; None where any size will do.
Shape = tuple[int | None, ...]

COARSEST_STRIDE = 32


class Colours(NamedTuple):
    """The affine map of colours, red, green and blue from 0 to 255, that a network was trained on.

    Attributes:
        mean: is subtracted.
        deviation: divides what is left.
        bgr: whether the network's channels are blue, green and red.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    bgr: bool = False


@keras.saving.register_keras_serializable("stages")
class Preprocess(layers.Layer):
    """Pictures, RGB from 0 to 255, to what a network was trained on.

    The bottom and right borders are padded with the mean colour to a multiple of 32, so that every
    stride divides the picture.

    Shapes: (batch, height, width, 3) to (batch, height', width', 3), any real or integer dtype to
    the layer's compute dtype.

    Args:
        colours: that the network expects.
    """

    def __init__(self, colours: Colours, **options: Any) -> None:
        super().__init__(**options)
        self.colours = Colours(*colours)

    def call(self, images: KerasTensor) -> KerasTensor:
        mean, deviation, bgr = self.colours
        x = ops.cast(images, "float32") - ops.convert_to_tensor(mean, "float32")
        x = x / ops.convert_to_tensor(deviation, "float32")
        x = ops.flip(x, axis=-1) if bgr else x
        batch, height, width, channels = ops.shape(images)
        # Not `-side % 32`: ONNX's remainder of a negative number is negative.
        bottom, right = (
            (COARSEST_STRIDE - side % COARSEST_STRIDE) % COARSEST_STRIDE for side in (height, width)
        )
        x = ops.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
        # Padding by an unknown amount hides the number of channels from LiteRT.
        x = ops.reshape(x, (batch, height + bottom, width + right, channels))
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, *size, channels = input_shape
        padded = (n and n + -n % COARSEST_STRIDE for n in size)
        return (batch, *padded, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "colours": self.colours}
