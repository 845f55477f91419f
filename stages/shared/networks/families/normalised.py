"""A convolution and the normalisation that follows it, computed as one convolution."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.families.preprocessing import Shape

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)


class NormalisedConvolution(layers.Layer):
    """A convolution whose kernel has the normalisation after it inside.

    The normalisation has its stored statistics, so that it is an affine map of each channel, which
    goes into the kernel and the bias ("Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", Jacob et al., section 3.2, equation 14). All weights are
    trained as if it did not. Activations are then written and read once less, and their gradients
    three times less.

    Shapes: (batch, height, width, channels) to what the convolution makes of it, in the dtype of
    the activations; the kernel is made in float32.

    Args:
        convolution: a Conv2D or a DepthwiseConv2D without an activation.
        normalisation: of its channels.
    """

    def __init__(
        self, convolution: layers.Layer, normalisation: layers.BatchNormalization, **options: Any
    ) -> None:
        # So that the kernel is made of the weights as they are, whatever the activations are.
        super().__init__(dtype="float32", autocast=False, **options)
        self.convolution, self.normalisation = convolution, normalisation

    def build(self, input_shape: Shape) -> None:
        made = self.compute_output_shape(input_shape)
        for layer, shape in ((self.convolution, input_shape), (self.normalisation, made)):
            if not layer.built:
                layer.build(shape)

    def call(self, x: KerasTensor) -> KerasTensor:
        convolution, normalisation = self.convolution, self.normalisation
        scale = ops.rsqrt(normalisation.moving_variance + normalisation.epsilon)
        scale = scale * normalisation.gamma if normalisation.scale else scale
        mean = normalisation.moving_mean
        mean = mean - convolution.bias if convolution.use_bias else mean
        depthwise = isinstance(convolution, layers.DepthwiseConv2D)
        kernel = convolution.kernel * (scale[:, None] if depthwise else scale)
        convolve = ops.depthwise_conv if depthwise else ops.conv
        convolved = convolve(
            x,
            ops.cast(kernel, x.dtype),
            convolution.strides,
            convolution.padding,
            dilation_rate=convolution.dilation_rate,
        )
        return convolved + ops.cast(normalisation.beta - mean * scale, x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.convolution.compute_output_shape(input_shape)


def plain_layers(model: keras.Model) -> Iterator[layers.Layer]:
    """The layers of a model; of a `NormalisedConvolution`, both that it is made of."""
    for layer in model.layers:
        if isinstance(layer, NormalisedConvolution):
            yield from (layer.convolution, layer.normalisation)
        else:
            yield layer


def normalising() -> Callable[..., KerasTensor]:
    """A `call_function` for keras.models.clone_model that makes a convolution and the
    normalisation after it a `NormalisedConvolution`."""
    convolved: dict[int, tuple[layers.Layer, KerasTensor, KerasTensor]] = {}

    def call(layer: layers.Layer, *args: Any, **options: Any) -> KerasTensor:
        if isinstance(layer, layers.BatchNormalization) and id(args[0]) in convolved:
            convolution, given, _ = convolved[id(args[0])]
            return NormalisedConvolution(convolution, layer, name=layer.name)(given)
        made = layer(*args, **options)
        linear = getattr(layer, "activation", None) is keras.activations.linear
        if isinstance(layer, CONVOLUTIONS) and linear:
            # With what it made, whose id is of use as long as it is kept.
            convolved[id(made)] = layer, args[0], made
        return made

    return call
