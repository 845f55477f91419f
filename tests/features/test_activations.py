"""data/features/: what is stored of an activation, and what is read back."""

from pathlib import Path

import keras
import numpy as np
import pytest

from stages.features.encoding import ShardWriter, encode
from stages.features.shard import require_finite
from stages.shared.formats import features
from stages.shared.formats.features import FeatureReader, Features, FeatureShard, Tap
from stages.shared.networks import fcn
from stages.shared.networks.fcn import HeadConfig, Score
from stages.shared.networks.stored import on_stored
from stages.shared.runtime.errors import UserError

SHAPE = (5, 4, 4, 6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(features, "FEATURES_DIR", tmp_path)
    return tmp_path


def made_up(scale: float = 1.0, shape: tuple = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, scale, shape).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_no_activation_is_off_by_more_than_half_a_step_whatever_the_scale(scale: float):
    values = made_up(scale)
    stored, steps = encode(values)
    assert stored.dtype == np.uint8
    assert steps.shape == (5, 6)
    np.testing.assert_allclose(steps, values.max((1, 2)) / 255, rtol=1e-6)
    error = np.abs(stored * steps[:, None, None] - values)
    assert (error <= 0.5001 * steps[:, None, None]).all()


def test_a_silent_channel_stays_silent():
    values = made_up()
    values[..., 2] = 0
    stored, steps = encode(values)
    assert not stored[..., 2].any()
    assert not steps[:, 2].any()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_activation_that_is_not_finite_is_named_with_its_picture(value: float):
    taps = {"pool4": made_up(), "fc7": made_up()}
    require_finite(taps, list("abcde"), "mixed_float16")
    taps["fc7"][3, 1, 1, 2] = value
    with pytest.raises(
        UserError, match=r"of fc7 on d are not finite under mixed_float16; set prec"
    ):
        require_finite(taps, list("abcde"), "mixed_float16")


def write(values: np.ndarray, masks: np.ndarray, shard_sizes: list[int]) -> Features:
    """Store a split in shards, each in two batches."""
    start, shards = 0, []
    for number, pictures in enumerate(shard_sizes):
        writer = ShardWriter(features.FEATURES_DIR, "test", number, pictures)
        for part in np.array_split(np.arange(start, start + pictures), 2):
            writer.append({"fc7": values[part]}, masks[part])
        shards.append(FeatureShard(number=number, pictures=pictures, files=writer.close()))
        start += pictures
    return Features(
        records="",
        backbone="",
        precision="float32",
        image_size=masks.shape[1:],
        classes=["a", "b"],
        taps={"fc7": Tap(shape=values.shape[1:], mean=[0] * 6, deviation=[1] * 6)},
        shards={"test": shards},
    )


def test_pictures_are_read_by_index_across_shards_in_the_order_asked_for(folder: Path):
    values = made_up()
    masks = np.random.default_rng(1).integers(0, 2, (5, 8, 8), np.uint8)
    features = write(values, masks, [3, 2])
    reader = FeatureReader(features, "test", ["fc7"])
    assert len(reader) == 5
    chosen = np.array([4, 0, 3])
    inputs, read_masks = reader.take(chosen)
    stored, steps = encode(values[chosen])
    np.testing.assert_array_equal(inputs["fc7"], stored)
    np.testing.assert_array_equal(inputs["fc7_step"], steps)
    np.testing.assert_array_equal(read_masks, masks[chosen])


def test_the_files_are_npy(folder: Path):
    values = made_up()
    write(values, np.zeros((5, 8, 8), np.uint8), [5])
    np.testing.assert_array_equal(np.load(folder / "test-00000.fc7.npy"), encode(values)[0])
    assert np.load(folder / "test-00000.mask.npy").shape == (5, 8, 8)


def test_a_head_on_what_is_stored_is_the_head_on_the_activations():
    values = made_up(scale=100.0)
    head = fcn.head(
        HeadConfig(
            stride=32, channels={"fc7": 6}, classes=["a", "b"], image_size=(64, 64), fit="stretch"
        )
    )
    kernel = np.random.default_rng(2).normal(0, 0.01, (6, 2)).astype(np.float32)
    fcn.set_scores(head, {"fc7": Score(kernel, np.ones(2, np.float32))})
    stored, steps = encode(values)
    inputs = {"fc7": stored, "fc7_step": steps}
    decoded = stored * steps[:, None, None]
    np.testing.assert_allclose(on_stored(head)(inputs), head({"fc7": decoded}), atol=1e-5)


def test_training_the_head_on_what_is_stored_trains_the_head():
    head = fcn.head(
        HeadConfig(
            stride=32, channels={"fc7": 6}, classes=["a", "b"], image_size=(64, 64), fit="stretch"
        )
    )
    model = on_stored(head)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stored, steps = encode(made_up())
    model.train_on_batch({"fc7": stored, "fc7_step": steps}, np.ones((5, 128, 128), np.uint8))
    assert np.any(fcn.scores(head)["fc7"].kernel)
