"""What a network computes for a picture: its multiplications and additions."""

import math
from collections.abc import Mapping

import keras
from keras import KerasTensor, layers, tree

from stages.shared.networks.families.hub import Pyramid, reductions


def flop(model: keras.Model, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiplications and additions of a network's convolutions and linear layers on one picture.

    Each entry of a kernel is multiplied, and the product added, at each place of what its layer
    makes; what attention multiplies of two activations is left out. Papers that count a
    multiplication with its addition as one give half as many.

    Args:
        model: a functional model.
        shapes: of its inputs, by name, without the batch's axis.

    Example:
        >>> flop(backbones.build("vgg19", strides=[32]), {"pictures": (224, 224, 3)}) / 1e9
        50.73
    """
    known = {id(x): KerasTensor((1, *shapes[x.name]), x.dtype) for x in model.inputs}
    total = 0
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            continue
        given = tree.map_structure(lambda tensor: known[id(tensor)], operation.input)
        if isinstance(operation, layers.Layer):
            made = operation.compute_output_spec(given)
            total += _of_layer(operation, given)
        else:
            # An operator such as `+`, whose result is as large as the largest that it takes.
            made = max(tree.flatten(given), key=lambda tensor: math.prod(tensor.shape))
        known.update(zip(map(id, tree.flatten(operation.output)), tree.flatten(made), strict=True))
    return total


def _of_layer(layer: layers.Layer, given: KerasTensor) -> int:
    total = 0
    if isinstance(layer, Pyramid):
        (inner,) = layer.network.inputs
        windows, *shape = given.shape
        total = windows * flop(layer.network, {inner.name: tuple(shape)})
    elif isinstance(layer, keras.Sequential):
        for inner in layer.layers:
            total += _of_layer(inner, given)
            given = inner.compute_output_spec(given)
    elif kernels := [weight for weight in layer.weights if weight.name.endswith("kernel")]:
        made = tree.flatten(layer.compute_output_spec(given))[0]
        places = math.prod(made.shape[1:-1])
        fewer = reductions(layer)
        total = sum(
            2 * math.prod(kernel.shape) * places // fewer.get(id(kernel), 1) for kernel in kernels
        )
    return total
