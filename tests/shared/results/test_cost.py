"""What a network computes, against TensorFlow's own count of its graph."""

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from stages.shared.networks import backbones, heads
from stages.shared.networks.families.table import NETWORKS
from stages.shared.results.cost import flop
from tests.shared.networks.made_up import head_config
from tests.shared.networks.test_backbones import SMALLEST

SIZE = (64, 96)
# Operations of TensorFlow that are convolutions and linear layers.
COUNTED = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}


def by_tensorflow(model: keras.Model, inputs: object) -> int:
    """The floating-point operations that TensorFlow counts in a model's graph for one picture."""
    run = tf.function(lambda x: model(x, training=False)).get_concrete_function(inputs)
    graph = convert_variables_to_constants_v2(run).graph
    return sum(
        ops.get_stats_for_node_def(graph, operation.node_def, "flops").value
        for operation in graph.get_operations()
        if operation.type in COUNTED
    )


@pytest.mark.parametrize("network", SMALLEST)
def test_a_backbone_computes_as_many_as_tensorflow_counts(network: str):
    width = 0.125 if NETWORKS[network].narrows else 1.0
    backbone = backbones.build(network, width, strides=(4, 8, 16, 32))
    expected = by_tensorflow(backbone, tf.TensorSpec((1, *SIZE, 3)))
    assert flop(backbone, {"pictures": (*SIZE, 3)}) == expected


@pytest.mark.parametrize("decoder", ["fcn", "mlp", "fpn"])
def test_a_head_computes_as_many_as_tensorflow_counts(decoder: str):
    channels = {"stride8": 24, "stride16": 40, "stride32": 48}
    width = 16 if decoder != "fcn" else 0
    head = heads.build(head_config(channels, 8, decoder=decoder, width=width, context=1))
    shapes = {tap: (64 // int(tap[6:]), 96 // int(tap[6:]), c) for tap, c in channels.items()}
    inputs = {tap: tf.TensorSpec((1, *shape)) for tap, shape in shapes.items()}
    assert flop(head, shapes) == by_tensorflow(head, inputs)


def test_vgg19_computes_what_its_layers_say():
    """Counted by hand: 2 operations for each entry of a kernel at each place."""
    places, expected, channels = 32 * 32, 0, 3
    for block, count in zip((64, 128, 256, 512, 512), (2, 2, 4, 4, 4), strict=True):
        for _ in range(count):
            expected += 2 * 9 * channels * block * places
            channels = block
        places //= 4
    expected += 2 * (49 * 512 * 4096 + 4096 * 4096) * places
    assert flop(backbones.build("vgg19"), {"pictures": (32, 32, 3)}) == expected
