"""The measures, against their definitions in sets of pixels, and TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from stages.shared.records.ignore_label import IGNORED
from stages.shared.results import scores
from stages.train.metrics import MeanIoU, PixelAccuracy

CLASSES = 5


@pytest.fixture(
    params=[
        "all classes",
        "a class that never occurs",
        "a class never predicted",
        "a class that is predicted alone",
    ]
)
def masks(request) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth, noise = rng.integers(0, CLASSES, (2, 4, 30, 20))
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, noise)
    if request.param == "a class that never occurs":
        truth, predicted = truth % (CLASSES - 1), predicted % (CLASSES - 1)
    if request.param == "a class never predicted":
        predicted = predicted % (CLASSES - 1)
    if request.param == "a class that is predicted alone":
        truth = truth % (CLASSES - 1)
    return truth.astype(np.uint8), predicted.astype(np.uint8)


def test_the_confusion_matrix_has_truth_in_rows(masks):
    truth, predicted = (mask.ravel() for mask in masks)
    expected = tf.math.confusion_matrix(truth, predicted, CLASSES).numpy()
    np.testing.assert_array_equal(scores.confusion(*masks, CLASSES), expected)


def test_the_four_measures_and_the_iou_of_each_class(masks):
    truth, predicted = masks
    result = scores.score(scores.confusion(truth, predicted, CLASSES))
    accuracies, ious, weights = [], [], []
    for label in range(CLASSES):
        own, given = truth == label, predicted == label
        iou = (own & given).sum() / (own | given).sum() if own.any() else np.nan
        assert result.iou[label] == pytest.approx(iou, nan_ok=True)
        if own.any():
            accuracies.append((own & given).sum() / own.sum())
            ious.append(iou)
            weights.append(own.mean())
    assert result.pixel_accuracy == pytest.approx((truth == predicted).mean())
    assert result.mean_accuracy == pytest.approx(np.mean(accuracies))
    assert result.mean_iou == pytest.approx(np.mean(ious))
    assert result.frequency_weighted_iou == pytest.approx(np.dot(weights, ious))


def test_all_predictions_are_measured_on_the_classes_in_truth():
    """Two pixels of a third class cost the first one these two, and are no class of their own."""
    truth = np.repeat([0, 1], 8).reshape(4, 4).astype(np.uint8)
    predicted = truth.copy()
    predicted[0, :2] = 2
    counts = scores.confusion(truth, predicted, CLASSES)
    assert scores.score(counts).mean_iou == pytest.approx((6 / 8 + 1) / 2)
    assert np.isnan(scores.score(counts).iou[2])


def test_the_measures_while_training_are_those_of_the_report(masks):
    truth, predicted = masks
    logits = np.eye(CLASSES, dtype=np.float32)[predicted] * 3
    result = scores.score(scores.confusion(truth, predicted, CLASSES))
    for metric, expected in (
        (MeanIoU(CLASSES), result.mean_iou),
        (PixelAccuracy(CLASSES), result.pixel_accuracy),
    ):
        for half in (slice(0, 2), slice(2, 4)):
            metric.update_state(truth[half], logits[half])
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_ignored_pixels_are_counted_nowhere(masks):
    truth, predicted = masks
    ignored = truth.copy()
    ignored[:, 0] = IGNORED
    expected = scores.confusion(truth[:, 1:], predicted[:, 1:], CLASSES)
    np.testing.assert_array_equal(scores.confusion(ignored, predicted, CLASSES), expected)
