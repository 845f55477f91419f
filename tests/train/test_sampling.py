"""The loss on a share of the pixels."""

import csv
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from stages.shared.networks import heads
from stages.shared.networks.stored import on_stored
from stages.shared.records.ignore_label import IGNORED
from stages.train.losses import PixelLoss
from stages.train.sampling import Sampled
from stages.train.settings import Pixels
from stages.train.stage import train
from tests.conftest import Project
from tests.shared.networks.made_up import head_config

CLASSES, STRIDE = 3, 8
SIZE = (48, 32)


@pytest.fixture(scope="module")
def head() -> keras.Model:
    """An fcn of two taps, with weights by chance."""
    keras.utils.set_random_seed(1)
    channels = {"stride8": 4, "stride16": 6}
    made = heads.build(head_config(channels, STRIDE, classes=["a", "b", "c"]))
    made.set_weights([np.random.default_rng(2).normal(size=w.shape) for w in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def taps() -> dict[str, np.ndarray]:
    rng, (height, width) = np.random.default_rng(3), SIZE
    return {
        "stride8": rng.normal(size=(2, height // 8, width // 8, 4)).astype("float32"),
        "stride16": rng.normal(size=(2, height // 16, width // 16, 6)).astype("float32"),
    }


def history(variant: str) -> list[dict[str, str]]:
    with Path(f"reports/{variant}/history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def places(step: int) -> np.ndarray:
    """Masks, uint16 (2, height, width), whose values are the places: rows and columns."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.broadcast_to(rows * 100 + columns, (2, *SIZE)).astype("int32")


def draws(head: keras.Model, taps: dict, step: int, times: int) -> Iterator[tuple]:
    """Offset, masks and logits, so many times."""
    sampled = Sampled(heads.scores(head), STRIDE, step, seed=4)
    for _ in range(times):
        masks, logits = sampled(taps, places(step))
        yield divmod(int(masks[0, 0, 0]), 100), np.asarray(masks), np.asarray(logits)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_logits_and_masks_are_those_of_the_whole_picture_at_every_nth_place(head, taps, step: int):
    whole = np.asarray(head(taps))
    for (row, column), masks, logits in draws(head, taps, step, 5):
        # Where n does not divide a side, its end is reached by larger offsets.
        assert row < step + SIZE[0] % step and column < step + SIZE[1] % step
        size = np.array(SIZE) // step
        wanted = (slice(None), slice(row, None, step), slice(column, None, step))
        expected = whole[wanted][:, : size[0], : size[1]]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(masks, places(step)[wanted][:, : size[0], : size[1]])


@pytest.mark.parametrize("side", [7, 32, 33])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_every_place_of_an_axis_is_taken_at_some_time(head, step: int, side: int):
    sampled = Sampled(heads.scores(head), STRIDE, step, seed=4)
    taken = [set(np.asarray(sampled._places(side)).tolist()) for _ in range(60)]
    assert set.union(*taken) == set(range(side))
    assert {len(places) for places in taken} == {side // step}


@pytest.mark.parametrize("share", [1, 0.25, 0.11, 1 / 9, 0.0625])
def test_shares_that_rows_and_columns_make_are_settings(share: float):
    assert TypeAdapter(Pixels).validate_python(share) == share


def test_every_offset_is_drawn_anew_for_each_batch_and_follows_the_seed(head, taps):
    first, again = ([offset for offset, *_ in draws(head, taps, 2, 30)] for _ in range(2))
    assert first == again
    assert {first.count(offset) > 2 for offset in np.ndindex(2, 2)} == {True}


def test_the_mean_of_all_offsets_losses_is_the_loss_of_all_pixels(head, taps):
    """So that a step goes, on average, where it would go with all of them."""
    masks = np.random.default_rng(5).integers(0, CLASSES, (2, *SIZE)).astype("uint8")
    loss = PixelLoss(CLASSES)
    sampled = Sampled(heads.scores(head), STRIDE, 2, seed=4)
    found: dict[tuple, float] = {}
    for (row, column), *_ in draws(head, taps, 2, 16):
        part, logits = sampled(taps, masks)
        np.testing.assert_array_equal(part, masks[:, row::2, column::2])
        found[row, column] = float(loss(part, logits))
    assert len(found) == 4
    assert np.mean(list(found.values())) == pytest.approx(float(loss(masks, head(taps))), rel=1e-5)


def test_ignored_pixels_do_not_count_there_either(head, taps):
    masks = np.full((2, *SIZE), IGNORED, "uint8")
    masks[:, :, : SIZE[1] // 2] = 1
    part, logits = Sampled(heads.scores(head), STRIDE, 2, seed=4)(taps, masks)
    counted = np.asarray(part) != IGNORED
    chances = keras.ops.log_softmax(logits)
    expected = -np.asarray(chances)[..., 1][counted].mean()
    assert float(PixelLoss(CLASSES)(part, logits)) == pytest.approx(expected, rel=1e-5)


def test_a_head_s_scores_have_its_weights_and_read_what_is_stored(head):
    scores = on_stored(heads.scores(head))
    assert [id(w) for w in scores.weights] == [id(w) for w in on_stored(head).weights]


@pytest.mark.parametrize("variant", ["fcn8s", "fcn8s-finetuned"])
def test_a_variant_is_trained_on_a_share_of_the_pixels_to_the_same_bytes_again(
    variant: str, in_project: Project
):
    """And measured on all of the validation split's, as before the first step."""
    whole = history(variant)
    in_project.set_params({f"variants.{variant}.pixels": 0.0625})
    train(variant)
    first = Path(f"models/{variant}/head.weights.h5").read_bytes()
    part = history(variant)
    assert part[0]["val_loss"] == whole[0]["val_loss"]
    assert part[1]["loss"] != whole[1]["loss"]
    train(variant)
    assert Path(f"models/{variant}/head.weights.h5").read_bytes() == first
