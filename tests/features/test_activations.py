"""data/features/: what is stored of an activation, and what is read back."""

from pathlib import Path

import keras
import numpy as np
import pytest
import xxhash

from stages.features.encoding import Encoded, ShardWriter, encode
from stages.features.shard import Moments, require_finite
from stages.shared.formats.features import FeatureReader, Features, FeatureShard, Tap
from stages.shared.networks import heads
from stages.shared.networks.heads import Projection
from stages.shared.networks.stored import on_stored
from stages.shared.runtime.errors import UserError
from tests.shared.networks.made_up import head_config

SHAPE = (5, 4, 4, 6)


def made_up(scale: float = 1.0, shape: tuple = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, scale, shape).astype(np.float32)


def encoded(values: np.ndarray) -> Encoded:
    return Encoded(*map(np.asarray, encode(values)))


def decoded(stored: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What is stored as activations, as docs/formats.md has it."""
    return scale[:, 0, None, None] + stored * scale[:, 1, None, None]


@pytest.mark.parametrize("below", [0.0, 3.0], ids=["none negative", "some negative"])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_no_activation_is_off_by_more_than_half_a_step_whatever_the_scale(
    size: float, below: float
):
    values = made_up(size) - np.float32(below * size)
    stored, scale, *_ = encoded(values)
    assert stored.dtype == np.uint8
    assert scale.shape == (5, 2, 6)
    lowest, step = scale[:, 0], scale[:, 1]
    np.testing.assert_array_equal(lowest, values.min((1, 2)))
    np.testing.assert_allclose(step, np.ptp(values, (1, 2)) / 255, rtol=1e-6)
    error = np.abs(decoded(stored, scale) - values)
    assert (error <= 0.501 * step[:, None, None]).all()


def test_a_silent_channel_stays_silent():
    values = made_up()
    values[..., 2] = 0
    stored, scale, *_ = encoded(values)
    assert not stored[..., 2].any()
    assert not scale[..., 2].any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_activation_that_is_not_finite_is_named_with_its_picture(value: float):
    wrong = made_up()
    wrong[3, 1, 1, 2] = value
    taps = {"stride16": encoded(made_up()), "stride32": encoded(made_up())}
    require_finite(taps, list("abcde"), "mixed_float16")
    taps["stride32"] = encoded(wrong)
    with pytest.raises(
        UserError, match=r"of stride32 on d are not finite under mixed_float16; set prec"
    ):
        require_finite(taps, list("abcde"), "mixed_float16")


@pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 1, 1, 1]])
def test_moments_of_batches_add_up_to_those_of_all_activations(sizes: list[int]):
    values = made_up(scale=10.0) + np.float32(1000)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    total = sum((Moments.of(encoded(part)) for part in parts), Moments())
    whole = values.astype(np.float64)
    np.testing.assert_allclose(total.mean, whole.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(total.deviation, whole.std((0, 1, 2)), rtol=1e-4)
    assert total.count == 5 * 4 * 4


def test_the_digests_of_a_shard_are_those_of_its_files(tmp_path: Path):
    with ShardWriter(tmp_path, "test", 0, 5) as writer:
        for part in np.array_split(np.arange(5), 5):
            masks = np.zeros((len(part), 8, 8), np.uint8)
            writer.append({"stride32": encoded(made_up()[part])}, masks)
        digests = writer.close()
    assert digests == {
        path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in tmp_path.iterdir()
    }
    assert len(digests) == 3


def test_what_a_file_s_thread_can_t_write_fails_where_it_is_waited_for(tmp_path: Path):
    with ShardWriter(tmp_path, "test", 0, 5) as writer:
        writer.append({"stride32": encoded(made_up()[:1])}, np.zeros((1, 8, 8), np.uint8))
        for file in writer._files.values():
            file.thread.submit(file.file.close).result()
        writer.append({"stride32": encoded(made_up()[1:2])}, np.zeros((1, 8, 8), np.uint8))
        with pytest.raises(ValueError, match="closed file"):
            writer.close()


def write(folder: Path, values: np.ndarray, masks: np.ndarray, shard_sizes: list[int]) -> Features:
    """Store a split in shards, each in two batches."""
    start, shards = 0, []
    for number, pictures in enumerate(shard_sizes):
        writer = ShardWriter(folder, "test", number, pictures)
        for part in np.array_split(np.arange(start, start + pictures), 2):
            writer.append({"stride32": encoded(values[part])}, masks[part])
        shards.append(FeatureShard(number=number, pictures=pictures, files=writer.close()))
        start += pictures
    return Features(
        records="",
        backbone_weights="",
        precision="float32",
        image_size=masks.shape[1:],
        classes=["a", "b"],
        parameters=7,
        flop=9,
        taps={"stride32": Tap(shape=values.shape[1:], mean=[0] * 6, deviation=[1] * 6)},
        shards={"test": shards},
    )


def test_pictures_are_read_by_index_across_shards_in_the_order_asked_for(tmp_path: Path):
    values = made_up()
    masks = np.random.default_rng(1).integers(0, 2, (5, 8, 8), np.uint8)
    features = write(tmp_path, values, masks, [3, 2])
    reader = FeatureReader(tmp_path, features, "test", ["stride32"])
    assert len(reader) == 5
    chosen = np.array([4, 0, 3])
    inputs, read_masks = reader.take(chosen)
    stored, scale, *_ = encoded(values[chosen])
    np.testing.assert_array_equal(inputs["stride32"], stored)
    np.testing.assert_array_equal(inputs["stride32_scale"], scale)
    np.testing.assert_array_equal(read_masks, masks[chosen])


def test_the_files_are_npy(tmp_path: Path):
    values = made_up()
    write(tmp_path, values, np.zeros((5, 8, 8), np.uint8), [5])
    np.testing.assert_array_equal(
        np.load(tmp_path / "test-00000.stride32.npy"), encoded(values).values
    )
    assert np.load(tmp_path / "test-00000.mask.npy").shape == (5, 8, 8)


def test_a_head_on_what_is_stored_is_the_head_on_the_activations():
    values = made_up(scale=100.0)
    head = heads.build(head_config({"stride32": 6}, stride=32))
    kernel = np.random.default_rng(2).normal(0, 0.01, (6, 2)).astype(np.float32)
    heads.set_projections(head, {"stride32": Projection(kernel, np.ones(2, np.float32))})
    stored, scale, *_ = encoded(values)
    inputs = {"stride32": stored, "stride32_scale": scale}
    expected = head({"stride32": decoded(stored, scale)})
    np.testing.assert_allclose(on_stored(head)(inputs), expected, atol=1e-5)


def test_training_the_head_on_what_is_stored_trains_the_head():
    head = heads.build(head_config({"stride32": 6}, stride=32))
    model = on_stored(head)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stored, scale, *_ = encoded(made_up())
    model.train_on_batch(
        {"stride32": stored, "stride32_scale": scale}, np.ones((5, 128, 128), np.uint8)
    )
    assert np.any(heads.projections(head)["stride32"].kernel)
