"""The backbones: colours, padding, taps, and weights that are stored and loaded."""

from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.families import SMALLEST
from stages.shared.networks import backbones
from stages.shared.networks.backbones import BackboneConfig, stride_of, tap
from stages.shared.networks.families.normalised import plain_layers
from stages.shared.networks.families.preprocessing import Preprocess
from stages.shared.networks.families.table import CAFFE, EVEN, NETWORKS, TORCH
from tests.conftest import EVERY_NETWORK
from tests.shared.networks.made_up import network_of_ones

STRIDES = (4, 8, 16, 32)
# Of each family the smallest; CAMPAIGN=all takes those that a machine of 8 GB can hold twice.
LARGEST = ("convnext_large", "convnext_xlarge", "efficientnet_b7", "efficientnet_v2_l")
TRIED = [name for name in NETWORKS if name not in LARGEST] if EVERY_NETWORK else SMALLEST


def small(name: str, dtype: str = "float32", seed: int = 1) -> keras.Model:
    """A network with all its taps, narrow if it can be."""
    return backbones.build(name, width(name), STRIDES, seed, dtype)


@cache
def read_only(name: str) -> keras.Model:
    """One for all tests that change nothing of it."""
    return small(name)


def width(name: str) -> float:
    return 0.0625 if NETWORKS[name].narrows else 1.0


@pytest.mark.parametrize(
    "colours, mode",
    [(CAFFE, "caffe"), (TORCH, "torch"), (EVEN, "tf")],
    ids=["caffe", "torch", "tf"],
)
def test_colours_are_those_of_keras_applications(colours, mode: str):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    expected = keras.applications.imagenet_utils.preprocess_input(
        pictures.astype(np.float32), mode=mode
    )
    np.testing.assert_allclose(Preprocess(colours)(pictures), expected, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_padded_to_a_multiple_of_32_with_the_mean_colour(name: str):
    """What a network is trained to see as nothing."""
    colours = NETWORKS[name].colours
    preprocess = Preprocess(colours)
    padded = preprocess(np.full((1, 33, 20, 3), 255, np.uint8)).numpy()
    assert padded.shape == (1, 64, 32, 3)
    plain = preprocess(np.broadcast_to(np.float32(colours.mean), (1, 64, 32, 3))).numpy()
    np.testing.assert_allclose(padded[:, 33:], plain[:, 33:], atol=1e-5)
    np.testing.assert_allclose(padded[:, :, 20:], plain[:, :, 20:], atol=1e-5)


@pytest.mark.parametrize("name", TRIED)
def test_a_network_is_stored_and_loaded_and_gives_its_taps_at_their_strides(
    name: str, tmp_path: Path
):
    model = read_only(name)
    config = BackboneConfig(network=name, width=width(name), strides=STRIDES, origin="random")
    stored = backbones.save(model, config, tmp_path / "first")
    loaded = backbones.load(tmp_path / "first")
    # The names of layers are in the file; they must not follow what was built before.
    assert backbones.save(loaded, config, tmp_path / "second").weights == stored.weights

    pictures = np.random.default_rng(0).integers(0, 256, (1, 33, 95, 3), np.uint8)
    expected, found = model(pictures), loaded(pictures)
    shapes = backbones.tap_shapes(model, (33, 95))
    assert list(found) == list(shapes) == [tap(stride) for stride in STRIDES]
    for there, activations in found.items():
        assert activations.shape == (1, *shapes[there])
        assert shapes[there][:2] == (64 // stride_of(there), 96 // stride_of(there))
        np.testing.assert_array_equal(activations, expected[there])
        assert np.ptp(activations) > 0


@pytest.mark.parametrize("name", SMALLEST)
def test_random_weights_follow_the_seed(name: str):
    first, again = read_only(name).get_weights(), small(name).get_weights()
    other = small(name, seed=2).get_weights()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_random_weights_of_the_own_networks_are_he_normal():
    """So that activations neither grow nor vanish, in depthwise convolutions either."""
    kernel, bias = backbones.build("vgg19", 0.25, seed=1).get_layer("fc6").get_weights()
    assert kernel.std() == pytest.approx((2 / np.prod(kernel.shape[:-1])) ** 0.5, rel=0.02)
    assert not bias.any()
    lite = backbones.build("efficientnet_lite0", seed=1)
    named = {layer.name: layer for layer in plain_layers(lite)}
    (depthwise,) = named["blocks_11_depthwise_conv"].get_weights()
    assert depthwise.std() == pytest.approx((2 / 25) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_b0", "convnext_tiny"])
def test_in_training_a_backbone_computes_what_it_computes_else(name: str):
    """Its normalisations keep their statistics, and nothing is dropped: features stay features."""
    backbone = read_only(name)
    network = network_of_ones(backbone, stride=4)
    before = [w.copy() for w in backbone.get_weights()]
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(network(pictures, training=True), network(pictures))
    for a, b in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", SMALLEST)
def test_a_policy_reaches_every_layer(name: str, policy: str):
    model = small(name, policy)
    assert {x.dtype for x in model.output.values()} == {policy.removeprefix("mixed_")}
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
