"""How far around a pixel a network looks."""

import math
from typing import NamedTuple

import keras
from keras import layers, tree

from stages.shared.networks.families.hub import Pyramid
from stages.shared.networks.families.normalised import NormalisedConvolution
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE, Preprocess
from stages.shared.networks.families.upsampling import Upsample
from stages.shared.networks.heads import CropLike

# Layers whose result at a place is made of what lies at that place alone.
LOCAL = (
    layers.Activation,
    layers.Add,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.Dense,
    layers.Dropout,
    layers.InputLayer,
    layers.LayerNormalization,
    layers.Multiply,
    layers.Normalization,
    layers.ReLU,
    layers.Rescaling,
    layers.ZeroPadding2D,
    CropLike,
    Preprocess,
)
WINDOWS = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.AveragePooling2D,
    layers.MaxPooling2D,
)


class Sight(NamedTuple):
    """What activations are made of.

    Attributes:
        stride: pixels from one to the next.
        reach: pixels to each side of its own that one depends on; infinite: all of the picture.
    """

    stride: float
    reach: float


PICTURE, EVERYTHING = Sight(1, 0), Sight(1, math.inf)


def reach(network: keras.Model) -> int | None:
    """Pixels to each side that the logits of a pixel depend on, rounded up to the coarsest stride.

    "Computing Receptive Fields of Convolutional Neural Networks" (Araujo, Norris, Sim, 2019), with
    the distances added up from layer to layer: a window of 2 n + 1 activations reaches n to each
    side, each as many pixels wide as the stride ahead of it. None if they depend on the whole
    picture, as with squeeze-and-excite, or if a layer is of a kind that is not known here.

    Args:
        network: of `heads.network`; of several heads, the one that looks furthest counts.
    """
    backbone, *heads = (layer for layer in network.layers if isinstance(layer, keras.Model))
    pictures = dict.fromkeys(map(id, backbone.inputs), PICTURE)
    seen, far = follow(backbone, pictures), 0.0
    for head in heads:
        taps = {id(x): seen.get(id(backbone.output[t]), EVERYTHING) for t, x in head.input.items()}
        far = max(far, follow(head, taps).get(id(head.output), EVERYTHING).reach)
    return None if math.isinf(far) else math.ceil(far / COARSEST_STRIDE) * COARSEST_STRIDE


def follow(model: keras.Model, given: dict[int, Sight]) -> dict[int, Sight]:
    """The sight of all of a model's activations, by the tensors' ids, from that of its inputs."""
    seen = dict(given)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        read = [seen.get(id(tensor), EVERYTHING) for tensor in tree.flatten(layer.input)]
        before = Sight(max(s.stride for s in read), max(s.reach for s in read))
        made = tree.flatten(layer.output)
        if isinstance(layer, Pyramid):
            inside = follow(layer.network, dict.fromkeys(map(id, layer.network.inputs), before))
            levels = tree.flatten(layer.network.output)
            seen |= {
                id(x): inside.get(id(level), EVERYTHING)
                for x, level in zip(made, levels, strict=True)
            }
            continue
        seen |= dict.fromkeys(map(id, made), after(layer, before))
    return seen


def after(layer: keras.Layer, before: Sight) -> Sight:
    """The sight of what a layer makes."""
    stride, reach = before
    if isinstance(layer, Upsample):
        return Sight(stride / layer.factor, reach + stride)
    if isinstance(layer, NormalisedConvolution):
        return after(layer.convolution, before)
    if isinstance(layer, WINDOWS):
        window = getattr(layer, "kernel_size", None) or layer.pool_size
        step = max(layer.strides)
        # A window no larger than its step reads what it stands for.
        beyond = max(window) // 2 if max(window) > step else 0
        return Sight(stride * step, reach + beyond * stride)
    return before if isinstance(layer, LOCAL) else EVERYTHING
