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


def rows_seen(network: keras.Model, side: int) -> np.ndarray:
    """The rows of a picture of `side` x 64 that the logits of its middle row depend on, by their
    gradient."""
    import tensorflow as tf

    # Half of a picture would do, were the windows of a stride of 2 not to one side.
    picture = tf.Variable(np.random.default_rng(0).uniform(0, 255, (1, side, 64, 3)), tf.float32)
    with tf.GradientTape() as tape:
        logit = tf.reduce_sum(network(picture)[:, side // 2])
    return np.flatnonzero(np.abs(tape.gradient(logit, picture)).sum(axis=(0, 2, 3)))
