"""The networks of keras.applications, without their tops and without their preprocessing."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.families.normalised import normalising

# In place of a layer's name, of the tap that is the whole network's result.
RESULT = "result"


def application(
    pictures: KerasTensor,
    constructor: Callable[..., keras.Model],
    taps: Mapping[int, str],
    **options: Any,
) -> dict[int, KerasTensor]:
    """The layers of an application, with random weights.

    Args:
        pictures: preprocessed, (batch, height, width, 3), each side a multiple of 32.
        constructor: of keras.applications.
        taps: by stride, the layer whose activations each is; where Keras numbers layers anew in
            each process, `NAME.input` is what layer NAME reads, and `NAME.sum` the addition that
            reads it.
        options: more of the constructor's arguments.

    Returns:
        The taps, by stride: (batch, height / stride, width / stride, channels).
    """
    model = constructor(weights=None, include_top=False, input_tensor=pictures, **options)
    for number, layer in enumerate(model.layers):
        if automatic := unnumbered(layer):
            layer.name = f"{automatic}_{number}"
    found = {stride: _tap(model, layer) for stride, layer in taps.items()}
    (source,) = keras.utils.get_source_inputs(pictures)
    normalised = normalising()

    def call(layer: keras.Layer, *args: Any, **options: Any) -> KerasTensor:
        # `Preprocess` has the place of Normalization, and tf2onnx misses its constants.
        left_out = isinstance(layer, layers.Normalization)
        return args[0] if left_out else normalised(layer, *args, **options)

    return keras.models.clone_model(keras.Model(source, found), source, exportable, call).output


def _tap(model: keras.Model, where: str) -> KerasTensor:
    if where == RESULT:
        return model.output
    name, _, side = where.partition(".")
    layer = model.get_layer(name)
    if side == "sum":
        # An addition is no layer, so it has no name to ask for; it comes next.
        return model.operations[model.operations.index(layer) + 1].output
    return getattr(layer, side or "output")


def exportable(layer: keras.Layer) -> keras.Layer:
    """The layer itself anew, or one that does the same and can be converted to ONNX.

    With TensorFlow, Keras compiles a grouped convolution by XLA, and has GELU from the complement
    of the error function; tf2onnx converts neither.
    """
    if isinstance(layer, layers.Activation) and layer.activation is keras.activations.gelu:
        return layers.Activation(gelu, name=layer.name)
    if isinstance(layer, layers.Conv2D) and 1 < layer.groups == layer.filters:
        return layers.DepthwiseConv2D(
            layer.kernel_size,
            layer.strides,
            layer.padding,
            dilation_rate=layer.dilation_rate,
            activation=layer.activation,
            use_bias=layer.use_bias,
            depthwise_initializer=layer.kernel_initializer,
            bias_initializer=layer.bias_initializer,
            name=layer.name,
        )
    return type(layer).from_config(layer.get_config())


def gelu(x: KerasTensor) -> KerasTensor:
    """x times the normal distribution's share below it ("Gaussian Error Linear Units", Hendrycks,
    Gimpel, section 2), in the terms in which LiteRT's converter knows it."""
    return (x * 0.5) * (ops.erf(x * math.sqrt(0.5)) + 1.0)


def unnumbered(layer: keras.Layer) -> str | None:
    """The name that Keras gave a layer, without the number; None if it was given another.

    The number counts all that the process has built before, and stands in files of weights.
    """
    name = re.sub(r"_\d+$", "", layer.name)
    return name if name.replace("_", "") == type(layer).__name__.lower() else None
