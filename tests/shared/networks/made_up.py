"""Heads and networks that tests make up."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from stages.shared.networks import heads
from stages.shared.networks.backbones import from_coarse
from stages.shared.networks.heads import HeadConfig


def head_config(
    channels: Mapping[str, int], stride: int, classes: Sequence[str] = ("a", "b"), **more: Any
) -> HeadConfig:
    """The configuration of a head on those of some taps that its stride takes."""
    return HeadConfig(
        stride=stride,
        channels={tap: channels[tap] for tap in from_coarse(channels, stride)},
        classes=list(classes),
        image_size=(64, 64),
        fit="stretch",
        backbone="lite0",
        **more,
    )


def network_of_ones(backbone: keras.Model, stride: int) -> keras.Model:
    """A whole network whose score layers add up all activations."""
    channels = {tap: activations.shape[-1] for tap, activations in backbone.output.items()}
    head = heads.build(head_config(channels, stride))
    head.set_weights([np.ones(w.shape) for w in head.get_weights()])
    return heads.network(backbone, head)
