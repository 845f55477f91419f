"""EfficientNet-Lite: EfficientNet without squeeze-and-excite, with ReLU6, its stem and head at one
size.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan, Le, table 1), as
changed in `efficientnet_lite_builder.py` of TensorFlow's TPU models.
"""

import math
from typing import NamedTuple

import keras
from keras import KerasTensor, layers

from stages.shared.networks.families.normalised import NormalisedConvolution

STEM, HEAD = 32, 1280
# Of the file of weights, and of all networks that TensorFlow's TPU models have.
EPSILON = 1e-3
CHANNELS_DIVISOR = 8


class Stage(NamedTuple):
    """Blocks of one number of channels; the first of them has the stride.

    Attributes:
        blocks: their number.
        kernel: side of the depthwise convolutions.
        stride: of the first block.
        expansion: factor of channels inside a block.
        channels: of the blocks' results.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled(width: float, depth: float) -> list[Stage]:
    """The stages of a larger network: the first and the last keep their number of blocks."""
    first, *others, last = [s._replace(channels=rounded(s.channels * width)) for s in STAGES]
    return [first, *(s._replace(blocks=math.ceil(s.blocks * depth)) for s in others), last]


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not below 90% of it."""
    nearest = int(channels + CHANNELS_DIVISOR / 2) // CHANNELS_DIVISOR * CHANNELS_DIVISOR
    return nearest if nearest >= 0.9 * channels else nearest + CHANNELS_DIVISOR


def depthwise(initializer: str, kernel: int) -> keras.initializers.Initializer:
    """The initialiser of a depthwise convolution: Keras counts the inputs of all its channels."""
    if initializer == "zeros":
        return keras.initializers.Zeros()
    return keras.initializers.RandomNormal(stddev=math.sqrt(2) / kernel)


def efficientnet_lite(
    pictures: KerasTensor, initializer: str, width: float = 1.0, depth: float = 1.0
) -> dict[int, KerasTensor]:
    """The layers of an EfficientNet-Lite.

    Their names are those of the published weights, which are read by them.

    Args:
        pictures: preprocessed, (batch, height, width, 3), each side a multiple of 32.
        initializer: of the kernels.
        width: factor of the channels, but for the stem's and the head's.
        depth: factor of the number of blocks.

    Returns:
        The taps, by stride: the expanded activations ahead of each stride, and the head's;
        (batch, height / stride, width / stride, channels).
    """

    def convolved(
        x: KerasTensor, channels: int, names: tuple[str, str], size: int = 1, stride: int = 1
    ) -> KerasTensor:
        convolution = layers.Conv2D(
            channels,
            size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            name=names[0],
        )
        return normalised(x, convolution, names[1])

    def filtered(x: KerasTensor, size: int, stride: int, names: tuple[str, str]) -> KerasTensor:
        convolution = layers.DepthwiseConv2D(
            size,
            stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=depthwise(initializer, size),
            name=names[0],
        )
        return normalised(x, convolution, names[1])

    def normalised(x: KerasTensor, convolution: layers.Layer, name: str) -> KerasTensor:
        normalisation = layers.BatchNormalization(epsilon=EPSILON, name=name)
        return NormalisedConvolution(convolution, normalisation, name=name)(x)

    def relu6(x: KerasTensor, name: str) -> KerasTensor:
        return layers.ReLU(6.0, name=name)(x)

    def block(
        x: KerasTensor, stage: Stage, stride: int, name: str
    ) -> tuple[KerasTensor, KerasTensor]:
        """An inverted residual block: its result, and its expanded activations."""
        expanded = x
        if stage.expansion > 1:
            names = f"{name}_expand_conv", f"{name}_bn0"
            expanded = convolved(x, x.shape[-1] * stage.expansion, names)
            expanded = relu6(expanded, f"{name}_expanded")
        names = f"{name}_depthwise_conv", f"{name}_bn1"
        y = relu6(filtered(expanded, stage.kernel, stride, names), f"{name}_filtered")
        y = convolved(y, stage.channels, (f"{name}_project_conv", f"{name}_bn2"))
        if stride == 1 and x.shape[-1] == stage.channels:
            y = layers.Add(name=f"{name}_add")([x, y])
        return y, expanded

    x = relu6(convolved(pictures, STEM, ("conv_stem", "bn0"), size=3, stride=2), "stem")
    taps, total, number = {}, 2, 0
    for stage in scaled(width, depth):
        for index in range(stage.blocks):
            stride = 1 if index else stage.stride
            x, expanded = block(x, stage, stride, f"blocks_{number}")
            if stride > 1:
                taps[total] = expanded
                total *= stride
            number += 1
    taps[total] = relu6(convolved(x, HEAD, ("conv_head", "bn1")), "head")
    return {stride: tap for stride, tap in taps.items() if stride > 2}
