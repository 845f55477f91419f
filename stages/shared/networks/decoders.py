"""The table of decoders: from a backbone's taps to logits at the stride of the finest.

A decoder reads a tap through one 1x1 convolution, its projection, and in no other way: heads are
trained on standardised activations, and the standardisation is folded into the projections.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from keras import KerasTensor, layers

from stages.shared.networks.backbones import stride_of
from stages.shared.networks.families.upsampling import Upsample

# Makes the projection of a tap to a number of channels, with an initialiser of its kernel.
Project = Callable[[str, int, str], layers.Layer]
# From the taps, the coarsest first, to logits: takes `project`, classes, width and context.
Decoder = Callable[[Mapping[str, KerasTensor], Project, int, int, int], KerasTensor]

CONTEXT_KERNEL, CONTEXT_EXPANSION = 5, 2


def fcn(
    taps: Mapping[str, KerasTensor], project: Project, classes: int, width: int, context: int
) -> KerasTensor:
    """Score layers on the taps, fused from coarse to fine; all scores start at zero.

    "Fully Convolutional Networks for Semantic Segmentation" (Long, Shelhamer, Darrell, section
    4.2): a linear 1x1 convolution scores each tap; a coarse score is upsampled bilinearly and added
    to the next finer one.
    """
    return fused({tap: project(tap, classes, "zeros")(x) for tap, x in taps.items()})


def mlp(
    taps: Mapping[str, KerasTensor], project: Project, classes: int, width: int, context: int
) -> KerasTensor:
    """Each tap to one width, upsampled, summed, normalised; one nonlinearity; a linear classifier.

    "SegFormer" (Xie et al., section 3.2), with the sum of the projections, which is what its
    concatenation and first linear layer amount to. Context blocks then look around each place.
    """
    x = fused({tap: project(tap, width, "glorot_uniform")(x) for tap, x in taps.items()})
    x = layers.LayerNormalization(name="normalise")(x)
    x = layers.Activation("relu", name="activate")(x)
    for number in range(1, context + 1):
        x = context_block(x, f"context{number}")
    if context:
        x = layers.LayerNormalization(name="normalise_context")(x)
    return classified(x, classes)


def fpn(
    taps: Mapping[str, KerasTensor], project: Project, classes: int, width: int, context: int
) -> KerasTensor:
    """A pyramid: a map at each stride, of its tap and all coarser ones; their sum is classified.

    "Panoptic Feature Pyramid Networks" (Kirillov et al., section 3.1), with separable convolutions
    and one of them at each stride.
    """
    levels: dict[str, KerasTensor] = {}
    top, coarser = None, ""
    for tap, x in taps.items():
        lateral = project(tap, width, "glorot_uniform")(x)
        top = lateral if top is None else added(top, coarser, lateral, tap, "lateral")
        coarser = tap
        level = layers.SeparableConv2D(width, 3, padding="same", name=f"smooth_{tap}")(top)
        level = layers.LayerNormalization(name=f"normalise_{tap}")(level)
        levels[tap] = layers.Activation("relu", name=f"activate_{tap}")(level)
    x = fused(levels)
    for number in range(1, context + 1):
        x = context_block(x, f"context{number}")
    return classified(x, classes)


DECODERS: dict[str, Decoder] = {"fcn": fcn, "mlp": mlp, "fpn": fpn}


def fused(maps: Mapping[str, KerasTensor]) -> KerasTensor:
    """Maps of one number of channels at several strides as their sum at the finest."""
    total = next(iter(maps.values()))
    for coarser, finer in pairwise(maps):
        total = added(total, coarser, maps[finer], finer, "fuse")
    return total


def added(
    coarse: KerasTensor, coarser: str, fine: KerasTensor, finer: str, name: str
) -> KerasTensor:
    """A map at a coarse stride, upsampled, and one at a finer stride."""
    factor = stride_of(coarser) // stride_of(finer)
    upsampled = Upsample(factor, name=f"{name}_upsample_to_{finer}")(coarse)
    return layers.Add(name=f"{name}_{finer}")([upsampled, fine])


def context_block(x: KerasTensor, name: str) -> KerasTensor:
    """What lies around a place, added to it: a depthwise 5x5 convolution and two linear layers.

    The block of "A ConvNet for the 2020s" (Liu et al., section 2.5), smaller, less expanded and
    with ReLU, which takes a sixth of the time of GELU and was as good on the pictures tried.
    """
    width = x.shape[-1]
    y = layers.DepthwiseConv2D(CONTEXT_KERNEL, padding="same", name=f"{name}_around")(x)
    y = layers.LayerNormalization(name=f"{name}_normalise")(y)
    y = layers.Dense(CONTEXT_EXPANSION * width, "relu", name=f"{name}_expand")(y)
    y = layers.Dense(width, name=f"{name}_contract")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def classified(x: KerasTensor, classes: int) -> KerasTensor:
    """Logits of a map, by a linear layer."""
    return layers.Dense(classes, name="classify")(x)
