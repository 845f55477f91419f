"""The backbone: VGG19's own numbers, as a fully convolutional network."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from stages.backbone import stage
from stages.backbone.settings import Backbone
from stages.shared.networks import vgg
from stages.shared.runtime.errors import UserError


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    """Keras's VGG19 at full width with random weights, its top included."""
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG19(weights=None, classifier_activation=None)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            rng = np.random.default_rng(len(bias))
            layer.set_weights([kernel, rng.normal(0, 0.5, bias.shape)])
    return model


def test_fc6_and_fc7_as_convolutions_equal_vgg19_s_dense_layers(classifier: keras.Model):
    backbone = vgg.backbone()
    vgg.copy_classifier(backbone, classifier)
    pictures = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    names = ("block3_pool", "block4_pool", "fc2")
    reference = keras.Model(classifier.input, [classifier.get_layer(n).output for n in names])
    preprocessed = keras.applications.vgg19.preprocess_input(pictures.copy())
    pool3, pool4, fc2 = reference.predict(preprocessed, verbose=0)
    taps = backbone.predict(pictures, verbose=0)
    assert taps["fc7"].shape == (1, 7, 7, 4096)
    np.testing.assert_allclose(taps["pool3"], pool3, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(taps["pool4"], pool4, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(taps["fc7"][:, 3, 3], fc2, rtol=1e-3, atol=1e-3)


def published_layout(model: keras.Model, path: Path) -> Path:
    """Write a model's weights in the layout of the files that keras.applications publishes."""
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
    return path


def test_a_local_weights_file_gives_the_same_network(classifier: keras.Model, tmp_path: Path):
    file = published_layout(classifier, tmp_path / "vgg19_weights_tf_dim_ordering_tf_kernels.h5")
    settings = Backbone(network="vgg19", weights=str(file), width=1.0)
    loaded = stage.published(settings)
    for name in ("block1_conv1", "block5_conv4", "fc1", "fc2"):
        kernel, bias = loaded.get_layer(name).get_weights()
        expected_kernel, expected_bias = classifier.get_layer(name).get_weights()
        np.testing.assert_array_equal(kernel, expected_kernel)
        np.testing.assert_array_equal(bias, expected_bias)


def test_preprocessing_is_vgg_s_own():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    expected = keras.applications.vgg19.preprocess_input(pictures.astype(np.float32))
    np.testing.assert_allclose(vgg.Preprocess()(pictures), expected, atol=1e-4)


def test_pictures_are_padded_to_a_multiple_of_32_with_the_mean_colour():
    padded = vgg.Preprocess()(np.full((1, 33, 20, 3), 255, np.uint8)).numpy()
    assert padded.shape == (1, 64, 32, 3)
    assert not padded[:, 33:].any()
    assert not padded[:, :, 20:].any()


@pytest.mark.parametrize("height, width", [(32, 32), (33, 95), (160, 64)])
def test_the_taps_lie_at_their_strides(height: int, width: int):
    taps = vgg.backbone(width=0.0625, seed=0)(np.zeros((1, height, width, 3), np.uint8))
    for stride, tap in vgg.TAPS.items():
        rows, columns = (-(-n // 32) * 32 // stride for n in (height, width))
        assert taps[tap].shape[1:3] == (rows, columns)


def test_random_weights_are_he_normal_and_follow_the_seed():
    first, again, other = (vgg.backbone(width=0.25, seed=s) for s in (1, 1, 2))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernel, bias = first.get_layer("fc6").get_weights()
    assert kernel.std() == pytest.approx((2 / np.prod(kernel.shape[:-1])) ** 0.5, rel=0.02)
    assert not bias.any()
    assert np.abs(kernel - other.get_layer("fc6").get_weights()[0]).max() > 0


def test_a_stored_backbone_is_the_same_network(tmp_path: Path):
    model = vgg.backbone(width=0.0625, seed=0)
    vgg.save(model, 0.0625, "random", tmp_path)
    for a, b in zip(vgg.load(tmp_path).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_that_are_no_file_are_named():
    with pytest.raises(UserError, match=r"backbone\.weights is 'vgg\.h5', which is not a file"):
        stage.published(Backbone(network="vgg19", weights="vgg.h5", width=1.0))


def test_a_file_of_other_weights_is_named(tmp_path: Path):
    headless = keras.applications.VGG19(weights=None, include_top=False)
    other = published_layout(headless, tmp_path / "vgg19_notop.h5")
    broken, empty = tmp_path / "broken.h5", tmp_path / "empty.h5"
    broken.write_bytes(other.read_bytes()[: other.stat().st_size // 2])
    empty.touch()
    for file in (other, broken, empty):
        with pytest.raises(UserError, match=rf"{file.name} does not hold the weights of vgg19"):
            stage.published(Backbone(network="vgg19", weights=str(file), width=1.0))


def test_weights_that_cannot_be_downloaded_are_told_with_the_ways_out(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Nothing listens there.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"(?s)ImageNet weights.*data/weights/.*profiles/demo\.yaml"
    ):
        stage.published(Backbone(network="vgg19", weights="imagenet", width=1.0))
