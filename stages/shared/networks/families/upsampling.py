"""Bilinear upsampling."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.families.preprocessing import Shape

# From so many on, the backend's own resizing is faster than two products of matrices: with 21 by a
# third, with 128 three times as fast; with 3, in bfloat16, it takes eight times as long.
MANY_CHANNELS = 16


@keras.saving.register_keras_serializable("stages")
class Upsample(layers.Layer):
    """Bilinear upsampling by a whole factor, as `tf.image.resize` does it.

    Exact at the borders, traced for any height and width, and the same on every backend.

    Shapes: (batch, height, width, channels) to (batch, factor * height, factor * width, channels).
    """

    def __init__(self, factor: int, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: KerasTensor) -> KerasTensor:
        size = ops.shape(x)[1:3]
        # Keras's resizing takes no sizes that are unknown while it is traced.
        if x.shape[-1] >= MANY_CHANNELS and all(isinstance(side, int) for side in size):
            return ops.image.resize(x, [side * self.factor for side in size], "bilinear")
        return by_matrices(x, self.factor)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        return (batch, height and height * self.factor, width and width * self.factor, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def by_matrices(
    x: KerasTensor,
    factor: int,
    rows: KerasTensor | None = None,
    columns: KerasTensor | None = None,
) -> KerasTensor:
    """Upsampling by any factor: bilinear interpolation is a matrix on each axis.

    Args:
        x: (batch, height, width, channels).
        factor: of both axes.
        rows: of the result that are wanted, int32; None: all.
        columns: likewise.
    """
    height, width = ops.shape(x)[1:3]
    down = interpolation(height, factor, x.dtype, rows)
    across = interpolation(width, factor, x.dtype, columns)
    planes = ops.transpose(x, (0, 3, 1, 2))
    # Of as many axes as the planes: LiteRT has no other product of unknown sizes.
    down, across = down[None, None], ops.transpose(across)[None, None]
    planes = ops.matmul(ops.matmul(down, planes), across)
    return ops.transpose(planes, (0, 2, 3, 1))


def interpolation(
    size: int, factor: int, dtype: str, places: KerasTensor | None = None
) -> KerasTensor:
    """The matrix (size * factor, size) that upsamples an axis, clamped at the outermost centres; of
    some places, its rows."""
    # Half precision has not all of these numbers.
    target = ops.cast(ops.arange(size * factor) if places is None else places, "float32")
    source = ops.clip((target + 0.5) / factor - 0.5, 0, ops.cast(size - 1, "float32"))
    distance = ops.abs(source[:, None] - ops.cast(ops.arange(size), "float32")[None, :])
    return ops.cast(ops.relu(1 - distance), dtype)
