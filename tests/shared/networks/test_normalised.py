"""Convolutions that have their normalisation inside, against Keras's own layers one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from benchmarks.families import SMALLEST
from stages.shared.networks import backbones
from stages.shared.networks.families.normalised import (
    CONVOLUTIONS,
    NormalisedConvolution,
    normalising,
    plain_layers,
)

CHANNELS = 6
MADE = {
    "plain": lambda: layers.Conv2D(8, 3, use_bias=False),
    "strided": lambda: layers.Conv2D(8, 3, 2, padding="same", use_bias=False),
    "dilated": lambda: layers.Conv2D(8, 3, dilation_rate=2, padding="same"),
    "biased": lambda: layers.Conv2D(8, 1, bias_initializer="glorot_uniform"),
    "depthwise": lambda: layers.DepthwiseConv2D(5, 2, padding="same", use_bias=False),
    "depthwise, biased": lambda: layers.DepthwiseConv2D(3, bias_initializer="random_normal"),
}


def pair(name: str, scale: bool = True) -> tuple[layers.Layer, layers.BatchNormalization]:
    """A convolution and a normalisation of random weights."""
    keras.utils.set_random_seed(2)
    convolution, normalisation = MADE[name](), layers.BatchNormalization(scale=scale)
    normalisation.build(convolution(np.zeros((1, 9, 9, CHANNELS))).shape)
    rng = np.random.default_rng(2)
    normalisation.set_weights([rng.uniform(0.5, 2, w.shape) for w in normalisation.get_weights()])
    return convolution, normalisation


def gradients(model: keras.Model, pictures: np.ndarray) -> list[np.ndarray]:
    """Of the sum of squares of what it makes, to each weight."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pictures, training=False) ** 2)
    return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_values_and_gradients_are_those_of_the_two_layers(name: str, scale: bool):
    inputs = keras.Input((None, None, CHANNELS))
    convolution, normalisation = pair(name, scale)
    apart = keras.Model(inputs, normalisation(convolution(inputs)))
    together = keras.Model(inputs, NormalisedConvolution(*pair(name, scale))(inputs))
    pictures = np.random.default_rng(1).normal(size=(2, 9, 12, CHANNELS)).astype(np.float32)
    np.testing.assert_allclose(together(pictures), apart(pictures), rtol=1e-4, atol=1e-4)
    for found, expected in zip(
        gradients(together, pictures), gradients(apart, pictures), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_under_a_policy_the_kernel_is_made_in_float32():
    """Else it would be rounded twice."""
    with backbones.dtype_policy("mixed_bfloat16"):
        layer = NormalisedConvolution(*pair("biased"))
    # A picture of a single channel of ones gives back a row of the kernel, and the bias.
    pictures = np.zeros((1, 1, CHANNELS, CHANNELS), np.float32)
    pictures[0, 0] = np.eye(CHANNELS)
    made = layer(tf.constant(pictures, tf.bfloat16))
    assert made.dtype == tf.bfloat16
    convolution, normalisation = layer.convolution, layer.normalisation
    gamma, beta, mean, variance = (w.numpy() for w in normalisation.weights)
    scale = tf.math.rsqrt(variance + np.float32(normalisation.epsilon)).numpy() * gamma
    kernel = tf.cast(convolution.kernel.numpy()[0, 0] * scale, tf.bfloat16)
    bias = tf.cast(beta - (mean - convolution.bias.numpy()) * scale, tf.bfloat16)
    np.testing.assert_array_equal(made[0, 0], kernel + bias)


def test_only_a_linear_convolution_takes_the_normalisation_after_it():
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="first")(inputs)
    x = layers.Conv2D(4, 1, activation="relu", name="active")(x)
    x = layers.BatchNormalization(name="second")(x)
    x = layers.BatchNormalization(name="third")(layers.Conv2D(4, 1, name="linear")(x))
    model = keras.models.clone_model(keras.Model(inputs, x), call_function=normalising())
    kinds = {layer.name: type(layer) for layer in model.layers[1:]}
    assert kinds == {
        "first": layers.BatchNormalization,
        "active": layers.Conv2D,
        "second": layers.BatchNormalization,
        "third": NormalisedConvolution,
    }
    assert [layer.name for layer in plain_layers(model)][-2:] == ["linear", "third"]


@pytest.mark.parametrize("name", [n for n in SMALLEST if n not in ("vgg19", "convnext_tiny")])
def test_no_family_leaves_a_normalisation_after_a_convolution(name: str):
    """DenseNet normalises ahead of its convolutions too, from several."""
    model = backbones.build(name)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            assert not isinstance(layer.input._keras_history.operation, CONVOLUTIONS), layer.name
    assert any(isinstance(layer, NormalisedConvolution) for layer in model.layers)
