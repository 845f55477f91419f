"""The heads: upsampling, parents, folding, pictures of any size."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.shared.networks import backbones, heads
from stages.shared.networks.backbones import stride_of, tap
from stages.shared.networks.decoders import DECODERS
from stages.shared.networks.families.upsampling import MANY_CHANNELS, Upsample, by_matrices
from stages.shared.networks.heads import HeadConfig, Projection
from stages.train import standardised
from stages.train.settings import DecoderName
from stages.train.standardised import StandardisedProjection, Statistics, fold, unfold
from tests.shared.networks.made_up import head_config

CLASSES = ["pet", "background", "border"]
CHANNELS = {"stride32": 12, "stride16": 7, "stride8": 5}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def config(stride: int, decoder: str = "fcn") -> HeadConfig:
    more = {} if decoder == "fcn" else {"width": 20, "context": 1}
    return head_config(CHANNELS, stride, CLASSES, decoder=decoder, **more)


def activations(rng: np.random.Generator, stride: int, height: int = 2, width: int = 3) -> dict:
    """Made-up activations of pictures of 32 * height x 32 * width pixels."""
    sizes = {name: stride_of(name) for name in CHANNELS if stride_of(name) >= stride}
    return {
        name: rng.gamma(1, 100, (2, 32 * height // s, 32 * width // s, CHANNELS[name])).astype("f4")
        for name, s in sizes.items()
    }


def statistics(rng: np.random.Generator) -> dict[str, Statistics]:
    return {
        tap: Statistics(*rng.gamma(2, 50, (2, channels)).astype(np.float32))
        for tap, channels in CHANNELS.items()
    }


def random_scores(rng: np.random.Generator, stride: int) -> dict[str, Projection]:
    return {
        name: Projection(
            rng.normal(0, 1, (channels, 3)).astype("f4"), rng.normal(0, 1, 3).astype("f4")
        )
        for name, channels in CHANNELS.items()
        if stride_of(name) >= stride
    }


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("channels", [3, 64])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 4)], ids=str)
def test_upsampling_is_bilinear_resizing_borders_included(factor: int, size, channels: int, rng):
    scores = rng.normal(0, 1, (2, *size, channels)).astype(np.float32)
    expected = tf.image.resize(scores, [factor * n for n in size])
    np.testing.assert_allclose(Upsample(factor)(scores), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [MANY_CHANNELS - 1, MANY_CHANNELS])
def test_both_ways_of_upsampling_give_the_same_values_and_gradients(channels: int, rng):
    """On either side of the number of channels from which on the other one is taken."""
    scores = keras.Variable(rng.normal(0, 1, (1, 32, 64, channels)).astype(np.float32))
    upstream = rng.normal(0, 1, (1, 256, 512, channels)).astype(np.float32)
    ways = {
        "chosen": Upsample(8),
        "by matrices": lambda x: by_matrices(x, 8),
        "by resizing": lambda x: tf.image.resize(x, [256, 512]),
    }
    values, gradients = {}, {}
    for name, way in ways.items():
        with tf.GradientTape() as tape:
            values[name] = way(tf.convert_to_tensor(scores))
            total = tf.reduce_sum(values[name] * upstream)
        gradients[name] = tape.gradient(total, scores.value)
    for found, tolerance in ((values, 1e-5), (gradients, 1e-4)):
        for name in ("chosen", "by resizing"):
            np.testing.assert_allclose(found[name], found["by matrices"], atol=tolerance)


def test_a_new_head_scores_zero_for_every_class(rng):
    logits = heads.build(config(8))(activations(rng, 8))
    assert logits.shape == (2, 64, 96, 3)
    assert not np.any(logits)


@pytest.mark.parametrize("stride, parent_stride", [(16, 32), (8, 16), (8, 32), (16, 16)])
def test_a_variant_starts_from_its_parent_s_scores(stride: int, parent_stride: int, rng):
    parent, child = heads.build(config(parent_stride)), heads.build(config(stride))
    heads.set_projections(parent, random_scores(rng, parent_stride))
    heads.set_projections(child, heads.projections(parent))
    taps = activations(rng, stride)

    def fused(head: keras.Model) -> np.ndarray:
        """The sum at the head's own stride, before it goes up to the picture."""
        last = head.get_layer("upsample_to_picture").input
        return keras.Model(head.input, last)({tap: taps[tap] for tap in head.input}).numpy()

    expected = fused(parent)
    while parent_stride > stride:
        expected = tf.image.resize(expected, [2 * n for n in expected.shape[1:3]]).numpy()
        parent_stride //= 2
    np.testing.assert_allclose(fused(child), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("decoder", DECODERS)
def test_folding_the_standardisation_changes_nothing(decoder: str, rng):
    stats = statistics(rng)
    trained = randomised(standardised.head(config(8, decoder), stats, dropout=0.5), rng)
    plain = standardised.folded(trained, config(8, decoder), stats)
    taps = activations(rng, 8)
    expected = trained(taps).numpy()
    np.testing.assert_allclose(plain(taps), expected, rtol=1e-3, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_head_continues_another_of_its_decoder(decoder: str, rng):
    """From plain weights to standardised ones and back; a finer tap more changes no other layer."""
    stats = statistics(rng)
    parent = randomised(heads.build(config(16, decoder)), rng)
    same = standardised.head(config(16, decoder), stats)
    heads.transfer(parent, same, lambda tap, weights: unfold(weights, stats[tap]))
    taps = activations(rng, 16)
    expected = parent(taps).numpy()
    np.testing.assert_allclose(same(taps), expected, rtol=1e-3, atol=1e-4 * np.ptp(expected))

    finer = heads.build(config(8, decoder))
    new = finer.get_layer("project_stride8").get_weights()
    heads.transfer(parent, finer, lambda _, weights: weights)
    for layer in parent.layers:
        there = finer.get_layer(layer.name).get_weights() if layer.weights else []
        for a, b in zip(layer.get_weights(), there, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(new, finer.get_layer("project_stride8").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def randomised(head: keras.Model, rng: np.random.Generator) -> keras.Model:
    """A head with random numbers in every weight."""
    head.set_weights([rng.normal(0, 0.3, w.shape) for w in head.get_weights()])
    return head


def test_the_schema_knows_every_decoder():
    assert set(DECODERS) == set(DecoderName.__args__)


def test_unfolding_undoes_folding(rng):
    stats, score = statistics(rng)["stride32"], random_scores(rng, 32)["stride32"]
    back = unfold(fold(score, stats), stats)
    np.testing.assert_allclose(back.kernel, score.kernel, rtol=1e-5)
    np.testing.assert_allclose(back.bias, score.bias, rtol=1e-4, atol=1e-4)


def test_a_channel_that_never_fired_in_training_is_not_blown_up():
    silent = Statistics(np.float32([5, 0]), np.float32([2, 0]))
    assert silent.scale[0] == 2
    assert silent.scale[1] > 0.1
    assert np.isfinite(Statistics(np.zeros(3, "f4"), np.zeros(3, "f4")).scale).all()


def test_dropout_drops_whole_standardised_channels_while_training_alone(rng):
    stats, kept_share = statistics(rng)["stride32"], 0.5
    keras.utils.set_random_seed(1)
    layer = StandardisedProjection(3, stats, dropout=1 - kept_share)
    x = activations(rng, 32)["stride32"]
    layer.build(x.shape)
    layer.set_weights(list(random_scores(rng, 32)["stride32"]))
    standardised = (x - stats.mean) / stats.scale
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(layer(x), standardised @ kernel + bias, rtol=1e-4, atol=1e-4)

    trained = layer(x, training=True).numpy()
    masks = np.array(list(np.ndindex((2,) * CHANNELS["stride32"]))) / kept_share
    for picture, found in zip(standardised, trained, strict=True):
        possible = np.einsum("hwc,mc,ck->mhwk", picture, masks, kernel) + bias
        assert np.isclose(possible, found, rtol=1e-3, atol=1e-3).all((1, 2, 3)).sum() == 1


def test_the_gradients_of_a_standardised_score_are_those_of_plain_arithmetic(rng):
    """Also to the activations, for the whole network's training."""
    stats = statistics(rng)["stride32"]
    x = tf.constant(activations(rng, 32)["stride32"])
    layer = StandardisedProjection(3, stats)
    layer.build(x.shape)
    layer.set_weights(list(random_scores(rng, 32)["stride32"]))
    upstream = rng.normal(0, 1, (*x.shape[:3], 3)).astype("f4")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = layer(x)
        plain = tf.tensordot((x - stats.mean) / stats.scale, layer.kernel.value, 1) + layer.bias
    for source in (x, layer.kernel.value, layer.bias.value):
        np.testing.assert_allclose(
            tape.gradient(found, source, upstream),
            tape.gradient(plain, source, upstream),
            rtol=1e-3,
            atol=1e-3,
        )


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_stored_head_is_the_same_head(decoder: str, rng, tmp_path: Path):
    head = randomised(heads.build(config(8, decoder)), rng)
    heads.save(head, config(8, decoder), tmp_path)
    taps = activations(rng, 8)
    np.testing.assert_array_equal(heads.load(tmp_path)(taps), head(taps))
    cut = heads.load(tmp_path, image_size=(40, 81))
    np.testing.assert_array_equal(cut(taps), head(taps)[:, :40, :81])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_network_takes_pictures_of_any_size_and_gives_float32(policy: str, decoder: str, rng):
    network = small_network(rng, decoder, policy)
    for height, width in ((1, 1), (33, 100), (64, 64)):
        pictures = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        logits = network(pictures)
        assert logits.shape == (1, height, width, 3)
        assert logits.dtype == "float32"
        assert np.isfinite(logits).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_network_can_be_traced_for_unknown_height_and_width(decoder: str, rng, tmp_path: Path):
    network = small_network(rng, decoder)
    network.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for size in ((50, 70), (96, 33)):
        pictures = rng.integers(0, 256, (1, *size, 3)).astype(np.float32)
        np.testing.assert_allclose(loaded.serve(pictures), network(pictures), atol=1e-3)


def small_network(
    rng: np.random.Generator, decoder: str = "fcn", policy: str = "float32"
) -> keras.Model:
    """A whole network, narrow, random, with logits of order 1."""
    backbone = backbones.build("vgg19", 0.0625, seed=1, dtype=policy)
    channels = {tap(s): backbone.output[tap(s)].shape[-1] for s in (32, 16, 8)}
    head = heads.build(config(8, decoder).model_copy(update={"channels": channels}))
    small = {
        name: Projection(rng.normal(0, 1e-3, kernel.shape).astype("f4"), bias)
        for name, (kernel, bias) in heads.projections(head).items()
    }
    heads.set_projections(head, small)
    return heads.network(backbone, head)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_places_beyond_what_half_precision_counts_are_upsampled_right(dtype: str):
    """Of a thousand rows; bfloat16 has not every number above 256."""
    rows = np.arange(125, dtype="float32")[None, :, None, None] / 125
    found = by_matrices(keras.ops.cast(rows, dtype), 8)
    expected = np.asarray(by_matrices(rows, 8))
    np.testing.assert_allclose(keras.ops.cast(found, "float32"), expected, atol=0.01)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
