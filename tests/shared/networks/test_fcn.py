"""The heads: upsampling, parents, folding, pictures of any size."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.shared.networks import backbones, fcn
from stages.shared.networks.backbones import stride_of, tap
from stages.shared.networks.fcn import HeadConfig, Score
from stages.train import standardised
from stages.train.standardised import StandardisedScore, Statistics, fold, unfold

CLASSES = ["pet", "background", "border"]
CHANNELS = {"stride32": 12, "stride16": 7, "stride8": 5}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def config(stride: int) -> HeadConfig:
    return HeadConfig(
        stride=stride,
        channels={t: n for t, n in CHANNELS.items() if stride_of(t) >= stride},
        classes=CLASSES,
        image_size=(64, 64),
        fit="stretch",
        backbone="lite0",
    )


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


def random_scores(rng: np.random.Generator, stride: int) -> dict[str, Score]:
    return {
        name: Score(rng.normal(0, 1, (channels, 3)).astype("f4"), rng.normal(0, 1, 3).astype("f4"))
        for name, channels in CHANNELS.items()
        if stride_of(name) >= stride
    }


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 4)], ids=str)
def test_upsampling_is_bilinear_resizing_borders_included(factor: int, size, rng):
    scores = rng.normal(0, 1, (2, *size, 3)).astype(np.float32)
    expected = tf.image.resize(scores, [factor * n for n in size])
    np.testing.assert_allclose(fcn.Upsample(factor)(scores), expected, atol=1e-5)


def test_a_new_head_scores_zero_for_every_class(rng):
    logits = fcn.head(config(8))(activations(rng, 8))
    assert logits.shape == (2, 64, 96, 3)
    assert not np.any(logits)


@pytest.mark.parametrize("stride, parent_stride", [(16, 32), (8, 16), (8, 32), (16, 16)])
def test_a_variant_starts_from_its_parent_s_scores(stride: int, parent_stride: int, rng):
    parent, child = fcn.head(config(parent_stride)), fcn.head(config(stride))
    fcn.set_scores(parent, random_scores(rng, parent_stride))
    fcn.set_scores(child, fcn.scores(parent))
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


def test_folding_the_standardisation_changes_nothing(rng):
    stats = statistics(rng)
    trained, plain = standardised.head(config(8), stats, dropout=0.5), fcn.head(config(8))
    fcn.set_scores(trained, random_scores(rng, 8))
    fcn.set_scores(plain, {t: fold(s, stats[t]) for t, s in fcn.scores(trained).items()})
    taps = activations(rng, 8)
    np.testing.assert_allclose(plain(taps), trained(taps), rtol=1e-4, atol=1e-3)


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
    layer = StandardisedScore(3, stats, dropout=1 - kept_share)
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
    layer = StandardisedScore(3, stats)
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


def test_a_stored_head_is_the_same_head(rng, tmp_path: Path):
    head = fcn.head(config(8))
    fcn.set_scores(head, random_scores(rng, 8))
    fcn.save_head(head, config(8), tmp_path)
    taps = activations(rng, 8)
    np.testing.assert_array_equal(fcn.load_head(tmp_path)(taps), head(taps))
    cut = fcn.load_head(tmp_path, image_size=(40, 81))
    np.testing.assert_array_equal(cut(taps), head(taps)[:, :40, :81])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_network_takes_pictures_of_any_size_and_gives_float32(policy: str, rng):
    network = small_network(rng, policy)
    for height, width in ((1, 1), (33, 100), (64, 64)):
        pictures = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        logits = network(pictures)
        assert logits.shape == (1, height, width, 3)
        assert logits.dtype == "float32"
        assert np.isfinite(logits).all()


def test_the_network_can_be_traced_for_unknown_height_and_width(rng, tmp_path: Path):
    network = small_network(rng)
    network.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for size in ((50, 70), (96, 33)):
        pictures = rng.integers(0, 256, (1, *size, 3)).astype(np.float32)
        np.testing.assert_allclose(loaded.serve(pictures), network(pictures), atol=1e-3)


def small_network(rng: np.random.Generator, policy: str = "float32") -> keras.Model:
    """A whole network, narrow, random, with scores of order 1."""
    backbone = backbones.build("vgg19", 0.0625, seed=1, dtype=policy)
    channels = {tap(s): backbone.output[tap(s)].shape[-1] for s in (32, 16, 8)}
    head = fcn.head(config(8).model_copy(update={"channels": channels}))
    kernels = {tap: rng.normal(0, 1e-3, (n, 3)).astype("f4") for tap, n in channels.items()}
    fcn.set_scores(head, {tap: Score(k, np.zeros(3, "f4")) for tap, k in kernels.items()})
    return fcn.network(backbone, head)
