"""Presets of KerasHub as backbones: ResNet, MiT and DINOv2, with random weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest

from commands.predict.reach import reach
from stages.backbone import presets
from stages.backbone import stage as backbone
from stages.shared.networks import backbones
from stages.shared.networks.backbones import BackboneConfig
from stages.shared.networks.families import table
from stages.shared.networks.families.hub import Cut, Join, Preset
from stages.shared.results import cost
from stages.shared.runtime.errors import UserError
from tests.backbone.made_up_presets import DINOV2_SIDE, KINDS, OFFSET, SCALE, SIDE, save
from tests.conftest import Project
from tests.shared.networks.made_up import network_of_ones, rows_seen

STRIDES = (4, 8, 16, 32)
KEY = "backbones.b.network"
Made = Callable[[str], tuple[Preset, keras.Model]]


@pytest.fixture(scope="module")
def handles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("presets")
    return {kind: save(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def made(handles: dict[str, str]) -> Made:
    """A preset, and the backbone with its weights."""

    def make(kind: str) -> tuple[Preset, keras.Model]:
        preset = presets.described(handles[kind], SIDE, KEY)
        model = backbones.build("hub:" + handles[kind], strides=STRIDES, preset=preset)
        presets.copy(model, preset, KEY)
        return preset, model

    return make


def pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def levels(handle: str, given: np.ndarray, **options: object) -> dict[str, np.ndarray]:
    """What KerasHub itself makes of pictures: the levels of its own network."""
    network = keras_hub.models.Backbone.from_preset(handle, **options)
    converter = keras_hub.layers.ImageConverter.from_preset(handle)
    whole = keras.Model(network.inputs, network.pyramid_outputs)
    return {name: np.asarray(x) for name, x in whole(converter(given), training=False).items()}


def test_colours_are_those_of_the_preset(handles: dict[str, str]):
    mean, deviation, bgr = presets.described(handles["mit"], SIDE, KEY).colours
    given = pictures(8, 8).astype(np.float32)
    np.testing.assert_allclose(
        (given - mean) / deviation, given * SCALE + OFFSET, rtol=1e-5, atol=1e-5
    )
    assert not bgr


@pytest.mark.parametrize("scale, offset", [(1 / 127.5, -1.0), (None, None)])
def test_one_number_is_that_of_each_colour(scale, offset):
    mean, deviation, _ = presets.colours(scale, offset)
    assert mean == (pytest.approx(127.5 if scale else 0.0),) * 3
    assert deviation == (pytest.approx(127.5 if scale else 1.0),) * 3


def test_taps_of_a_resnet_are_keras_hub_s_own_levels_of_any_picture(made: Made, handles):
    given = pictures(64, 96)
    _, model = made("resnet")
    own = levels(handles["resnet"], given)
    for stride, level in zip(STRIDES, ("P2", "P3", "P4", "P5"), strict=True):
        found = model(given)[f"stride{stride}"]
        np.testing.assert_allclose(found, own[level], rtol=1e-4, atol=1e-4)


def test_taps_of_mit_are_keras_hub_s_own_levels_of_each_window(made: Made, handles):
    """Two windows, side by side; the second is half as wide, and the rest of it is mean colour."""
    given = pictures(SIDE, SIDE + SIDE // 2)
    _, model = made("mit")
    mean = -np.float32(OFFSET) / np.float32(SCALE)
    right = np.broadcast_to(mean, (2, SIDE, SIDE, 3)).copy()
    right[:, :, : SIDE // 2] = given[:, :, SIDE:]
    sized = {"image_shape": (SIDE, SIDE, 3)}
    left = levels(handles["mit"], given[:, :, :SIDE], **sized)
    right_levels = levels(handles["mit"], right, **sized)
    for stride, level in zip(STRIDES, ("P1", "P2", "P3", "P4"), strict=True):
        found = model(given)[f"stride{stride}"].numpy()
        assert found.shape[1:3] == (SIDE // stride, SIDE * 3 // 2 // stride)
        half = SIDE // stride
        np.testing.assert_allclose(found[:, :, :half], left[level], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            found[:, :, half:], right_levels[level][:, :, : half // 2], rtol=1e-3, atol=1e-4
        )


def test_taps_of_dinov2_are_its_tokens_after_each_quarter_of_its_layers(made: Made, handles):
    """A window of 64 pixels, seen at 56, has 4 x 4 tokens of 14 pixels, behind three others."""
    given = pictures(SIDE, SIDE)
    _, model = made("dinov2")
    small = keras.ops.image.resize(given.astype(np.float32), (DINOV2_SIDE, DINOV2_SIDE))
    sized = {"image_shape": (DINOV2_SIDE, DINOV2_SIDE, 3), "apply_layernorm": True}
    own = levels(handles["dinov2"], np.asarray(small), **sized)
    tokens = [own[f"stage{layer}"][:, 3:].reshape(2, 4, 4, 16) for layer in (2, 4, 6, 8)]
    found = {stride: model(given)[f"stride{stride}"].numpy() for stride in STRIDES}
    np.testing.assert_allclose(found[16], tokens[2], rtol=1e-3, atol=1e-3)
    halves = tokens[3].reshape(2, 2, 2, 2, 2, 16).mean((2, 4))
    np.testing.assert_allclose(found[32], halves, rtol=1e-3, atol=1e-3)
    # Bilinear, so that two neighbours share the quarters of what lies between them.
    corners = 0.75 * tokens[1][:, 0, 0] + 0.25 * tokens[1][:, 0, 1]
    np.testing.assert_allclose(found[8][:, 0, 1], corners, rtol=1e-3, atol=1e-3)
    assert found[4].shape == (2, 16, 16, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_stored_and_built_again_without_its_preset(
    kind: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    preset, model = made(kind)
    # As after training: a vision transformer's places, too, have to come back as they were.
    for weight in model.trainable_weights:
        weight.assign(weight - 0.01)
    network = "hub:no longer there"
    config = BackboneConfig(
        network=network, preset=preset, width=1.0, strides=STRIDES, origin="preset"
    )
    stored = backbones.save(model, config, tmp_path / "first")
    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", None)
    loaded = backbones.load(tmp_path / "first")
    assert backbones.save(loaded, config, tmp_path / "second").weights == stored.weights
    given = pictures(33, 95)
    shapes = backbones.tap_shapes(model, (33, 95))
    for tap, activations in loaded(given).items():
        np.testing.assert_array_equal(activations, model(given)[tap])
        assert activations.shape == (2, *shapes[tap])


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_reaches_every_layer(kind: str, made: Made):
    preset, _ = made(kind)
    model = backbones.build("hub:p", strides=STRIDES, dtype="mixed_bfloat16", preset=preset)
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    for found in (model.output, model(pictures(64, 64))):
        dtypes = {keras.backend.standardize_dtype(x.dtype) for x in found.values()}
        assert dtypes == {"bfloat16"}


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_a_network_computes_what_it_computes_else(kind: str, made: Made):
    _, model = made(kind)
    given = pictures(64, 64)
    for tap, activations in model(given, training=True).items():
        np.testing.assert_array_equal(activations, model(given)[tap])


def test_how_far_a_resnet_looks_is_known_and_a_transformer_sees_all(made: Made):
    """By the gradient of a row of logits; what is farther away changes nothing."""
    network, side = network_of_ones(made("resnet")[1], stride=8), 768
    rows = rows_seen(network, side)
    far = reach(network)
    assert far is not None
    assert side // 2 - far <= rows.min()
    assert rows.max() <= side // 2 + 31 + far < side
    assert reach(network_of_ones(made("mit")[1], stride=8)) is None


def test_what_is_not_trained_is_what_nothing_reads_and_where_the_tokens_are(made: Made):
    _, model = made("dinov2")
    still = {weight.name for weight in model.weights if not weight.trainable}
    assert still == {"mask_token", "position_embeddings", "interpolated_position_embeddings"}


def test_flop_of_mit_are_those_of_its_matrices(made: Made):
    """Of the first of its stages, with 16 x 16 places, and 2 x 2 for keys and values."""
    _, model = made("mit")
    (own,) = (x for x in model.get_layer("pyramid").network.layers if x.name.endswith("_0_0"))
    layer = type(own)(project_dim=4, num_heads=1, sr_ratio=own.attn.sr_ratio)
    tokens, reduced, width = 16 * 16, 2 * 2, 4
    query_and_result = 2 * tokens * width * width
    keys_and_values = 2 * reduced * width * width
    reduction = reduced * (8 * 8 * width) * width
    expanded = 2 * tokens * width * 4 * width + tokens * 9 * 4 * width
    expected = 2 * (query_and_result + keys_and_values + reduction + expanded)
    tensor = keras.KerasTensor((1, tokens, width))
    inputs = keras.Input((tokens, width), name="tokens")
    assert cost.flop(keras.Model(inputs, layer(inputs)), {"tokens": tensor.shape[1:]}) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_follow_the_seed(kind: str, made: Made):
    preset, _ = made(kind)
    first, again, other = (
        backbones.build("hub:p", seed=seed, preset=preset).get_weights() for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_windows_are_joined_to_what_they_were_cut_from():
    given = pictures(96, 160).astype(np.float32)
    windows = Cut(64)(given)
    assert windows.shape == (2 * 2 * 3, 64, 64, 3)
    np.testing.assert_array_equal(windows[1, :, :, 0], given[0, :64, 64:128, 0])
    np.testing.assert_array_equal(Join(64, 1)([windows, given]), given)
    halved = np.asarray(windows).reshape(12, 32, 2, 32, 2, 3).mean((2, 4))
    expected = given.reshape(2, 48, 2, 80, 2, 3).mean((2, 4))
    np.testing.assert_allclose(Join(64, 2)([halved, given]), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, licence", [("MiTBackbone", "non-commercial"), ("CSPNetBackbone", "the preset a/b")]
)
def test_a_licence_is_named_or_the_preset_that_has_one(name: str, licence: str):
    preset = Preset(handle="a/b", name=name, arguments="{}", colours=table.EVEN)
    assert licence in table.network("hub:a/b", preset).licence


def test_a_preset_of_another_class_is_an_error(tmp_path: Path):
    network = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=16,
        num_layers=1,
        num_heads=1,
        hidden_dim=4,
        mlp_dim=4,
    )
    network.save_to_preset(str(tmp_path))
    with pytest.raises(UserError, match=f"{KEY}: .* is a ViTBackbone; use a preset of CSPNet"):
        presets.described(str(tmp_path), SIDE, KEY)


def test_a_preset_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match=f"{KEY}: KerasHub can't load the Backbone of 'no/where'"):
        presets.described("no/where", SIDE, KEY)


def test_a_preset_that_does_not_say_what_its_pictures_are_is_an_error(tmp_path: Path):
    KINDS["mit"]().save_to_preset(str(tmp_path))
    with pytest.raises(UserError, match="KerasHub can't load the ImageConverter of"):
        presets.described(str(tmp_path), SIDE, KEY)


def test_without_keras_hub_the_message_says_how_it_is_installed(
    made: Made, monkeypatch: pytest.MonkeyPatch
):
    preset, _ = made("resnet")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    for needs in (
        lambda: presets.described("resnet_18_imagenet", SIDE, KEY),
        lambda: backbones.build("hub:resnet_18_imagenet", preset=preset),
    ):
        with pytest.raises(UserError, match=r"pip install -c constraints.txt -r extras/hub.txt"):
            needs()


@pytest.mark.parametrize("origin", ["preset", "random"])
def test_the_stage_stores_what_the_preset_holds(
    origin: str, handles: dict[str, str], in_project: Project, made: Made
):
    network = f"hub:{handles['resnet']}"
    entry = {"network": network, "weights": origin, "strides": [*STRIDES], "window": SIDE}
    in_project.set_params({"backbones.b": entry})
    backbone.backbone("b")
    stored = json.loads(Path("models/b/backbone.json").read_text())
    assert (stored["network"], stored["origin"]) == (network, origin)
    loaded, (_, expected) = backbones.load(Path("models/b")), made("resnet")
    pairs = zip(loaded.get_weights(), expected.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs) == (origin == "preset")
