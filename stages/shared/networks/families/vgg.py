"""VGG as a fully convolutional network.

The convolutions are those of "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(Simonyan, Zisserman, table 1); fc6 and fc7 are turned into convolutions as in "Fully Convolutional
Networks for Semantic Segmentation" (Long, Shelhamer, Darrell, section 3.1): a Dense layer over a
7x7x512 map is a 7x7 convolution with the same weights.
"""

from collections.abc import Sequence

from keras import KerasTensor, layers

CHANNELS = (64, 128, 256, 512, 512)
DENSE = 4096
# Stride of a tap in pixels, and the layer whose activations it is, in the paper's names.
TAPS = {4: "pool2", 8: "pool3", 16: "pool4", 32: "fc7"}


def vgg(
    pictures: KerasTensor, width: float, initializer: str, convolutions: Sequence[int]
) -> dict[int, KerasTensor]:
    """The layers of a VGG.

    Args:
        pictures: preprocessed, (batch, height, width, 3), each side a multiple of 32.
        width: share of the published channels, rounded, at least 1 channel.
        initializer: of the kernels.
        convolutions: in each block.

    Returns:
        The taps, by stride: (batch, height / stride, width / stride, channels).
    """

    def convolve(x: KerasTensor, filters: int, size: int, name: str) -> KerasTensor:
        channels = max(1, round(filters * width))
        return layers.Conv2D(
            channels,
            size,
            padding="same",
            activation="relu",
            kernel_initializer=initializer,
            name=name,
        )(x)

    x, found = pictures, {}
    for block, (count, filters) in enumerate(zip(convolutions, CHANNELS, strict=True), start=1):
        for number in range(1, count + 1):
            x = convolve(x, filters, 3, f"block{block}_conv{number}")
        x = found[f"pool{block}"] = layers.MaxPooling2D(2, name=f"pool{block}")(x)
    x = convolve(x, DENSE, 7, "fc6")
    found["fc7"] = convolve(x, DENSE, 1, "fc7")
    return {stride: found[layer] for stride, layer in TAPS.items()}
