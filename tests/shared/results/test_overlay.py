"""Masks laid over pictures: a colour is a class, and what is ignored has none."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from stages.compare import stage as compare
from stages.shared.records.ignore_label import IGNORED
from stages.shared.results.overlay import colours, overlay, save
from stages.shared.results.predicted import Predicted

CLASSES = 4


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


@pytest.mark.parametrize("opacity", [0.0, 0.4, 1.0])
def test_colours_are_mixed_with_grey(opacity: float, image: np.ndarray):
    mask = np.random.default_rng(1).integers(0, CLASSES, (9, 7), np.uint8)
    mask[0] = IGNORED
    shown = overlay(image, mask, CLASSES, opacity)
    assert (shown.shape, shown.dtype) == (image.shape, np.uint8)
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    expected = (1 - opacity) * grey[1:] + opacity * colours(CLASSES)[mask[1:]].astype(float)
    np.testing.assert_allclose(shown[1:], expected, atol=1.01)
    np.testing.assert_allclose(shown[0], grey[0], atol=1.01)


@pytest.mark.parametrize("classes", [1, 21, 22, 150, 255])
def test_every_class_has_a_colour_of_its_own(classes: int):
    found = colours(classes).astype(int)
    apart = np.abs(found[:, None] - found).sum(-1) + 1000 * np.eye(classes, dtype=int)
    assert apart.min() > 6


def test_predictions_have_no_colour_where_the_truth_is_ignored(image: np.ndarray):
    truth = np.zeros((9, 7), np.uint8)
    truth[:, :3] = IGNORED
    shown = Predicted("name", image, truth, {"fcn8s": np.ones((9, 7), np.uint8)})
    masks = compare.titled_masks(shown, CLASSES)
    assert list(masks) == ["ground truth", "fcn8s: mean IoU 0.00"]
    np.testing.assert_array_equal(masks["fcn8s: mean IoU 0.00"] == IGNORED, truth == IGNORED)
    nothing = shown._replace(truth=np.full((9, 7), IGNORED, np.uint8))
    assert list(compare.titled_masks(nothing, CLASSES)) == ["ground truth", "fcn8s"]


def test_the_legend_has_room_for_many_classes(image: np.ndarray, tmp_path: Path):
    """Matplotlib warns where a figure has no room for its pictures."""
    names = [f"class {number}" for number in range(150)]
    shown = Predicted("name", image, np.zeros((9, 7), np.uint8), {})
    figure = compare.side_by_side(shown, names, opacity=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "figure.png")
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0 and legend.y1 < figure.axes[0].get_window_extent().y0
