"""The networks of keras.applications, without their tops and without their preprocessing."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor

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
        taps: by stride, the layer whose activations each is; `NAME.input`: what that layer reads,
            where Keras numbers the layers before it anew in each process.
        options: more of the constructor's arguments.

    Returns:
        The taps, by stride: (batch, height / stride, width / stride, channels).
    """
    model = constructor(weights=None, include_top=False, input_tensor=pictures, **options)
    for number, layer in enumerate(model.layers):
        if automatic := unnumbered(layer):
            layer.name = f"{automatic}_{number}"
    return {stride: _tap(model, layer) for stride, layer in taps.items()}


def _tap(model: keras.Model, where: str) -> KerasTensor:
    if where == RESULT:
        return model.output
    name, _, side = where.partition(".")
    return getattr(model.get_layer(name), side or "output")


def unnumbered(layer: keras.Layer) -> str | None:
    """The name that Keras gave a layer, without the number; None if it was given another.

    The number counts all that the process has built before, and stands in files of weights.
    """
    name = re.sub(r"_\d+$", "", layer.name)
    return name if name.replace("_", "") == type(layer).__name__.lower() else None
