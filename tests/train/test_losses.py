"""The loss and the measures, against Keras's own, TensorFlow's and plain NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from stages.shared.records.ignore_label import IGNORED
from stages.train.losses import PixelLoss, class_planes, cross_entropy
from stages.train.metrics import (
    MeanIoU,
    PixelAccuracy,
    counted_by_products,
    counted_in_bins,
)

CLASSES = 4


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (2, 5, 6, CLASSES)).astype(np.float32)


@pytest.fixture
def masks() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, (2, 5, 6), np.uint8)


def chances(logits: np.ndarray) -> np.ndarray:
    """Softmax in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_by_default_it_is_keras_s_cross_entropy(logits, masks):
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(masks, logits)
    assert float(PixelLoss(CLASSES)(masks, logits)) == pytest.approx(float(expected), rel=1e-5)


def test_label_smoothing_is_keras_s(logits, masks):
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = smooth(np.eye(CLASSES)[masks], logits)
    found = PixelLoss(CLASSES, label_smoothing=0.2)(masks, logits)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_weigh_pixels_and_their_scale_does_not_matter(logits, masks):
    weights = np.array([1.0, 2.0, 0.5, 4.0])
    losses = -np.log(np.take_along_axis(chances(logits), masks[..., None].astype(int), -1)[..., 0])
    expected = np.average(losses, weights=weights[masks])
    for scale in (1, 10):
        found = PixelLoss(CLASSES, (weights * scale).tolist())(masks, logits)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_dice_is_added_with_its_weight(logits, masks):
    truth, found = np.eye(CLASSES)[masks], chances(logits)
    overlap = 2 * (truth * found).sum((0, 1, 2)) / (truth.sum((0, 1, 2)) + found.sum((0, 1, 2)))
    plain = float(PixelLoss(CLASSES)(masks, logits))
    with_dice = float(PixelLoss(CLASSES, dice=0.5)(masks, logits))
    assert with_dice - plain == pytest.approx(0.5 * (1 - overlap).mean(), abs=1e-5)


def test_jaccard_is_added_with_its_weight(logits, masks):
    truth, found = np.eye(CLASSES)[masks], chances(logits)
    overlap = (truth * found).sum((0, 1, 2))
    union = truth.sum((0, 1, 2)) + found.sum((0, 1, 2)) - overlap
    plain = float(PixelLoss(CLASSES)(masks, logits))
    with_jaccard = float(PixelLoss(CLASSES, jaccard=0.5)(masks, logits))
    assert with_jaccard - plain == pytest.approx(0.5 * (1 - overlap / union).mean(), abs=1e-5)


@pytest.mark.parametrize("kind", ["dice", "jaccard"])
def test_the_overlap_of_a_perfect_prediction_is_whole_whatever_classes_are_absent(kind: str):
    masks = np.zeros((1, 4, 4), np.uint8)
    masks[:, 2:] = 7
    logits = np.where(np.eye(150, dtype=bool)[masks], 50.0, -50.0).astype(np.float32)
    assert float(PixelLoss(150, **{kind: 1.0})(masks, logits)) == pytest.approx(0, abs=1e-6)


OPTIONS = {
    "plain": {},
    "weights": {"class_weights": [1, 2, 3, 4]},
    "smoothing": {"label_smoothing": 0.1},
    "dice": {"dice": 1.0},
    "jaccard": {"jaccard": 1.0},
    "all": {"class_weights": [1, 2, 3, 4], "label_smoothing": 0.1, "dice": 1.0},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_ignored_pixels_change_nothing(options: str, logits, masks):
    """Pixels of a picture's lower part are ignored, or not there."""
    loss = PixelLoss(CLASSES, **OPTIONS[options])
    ignored = masks.copy()
    ignored[:, 3:] = IGNORED
    expected = loss(masks[:, :3], logits[:, :3])
    assert float(loss(ignored, logits)) == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_of_ignored_pixels_has_no_loss(logits, masks):
    assert float(PixelLoss(CLASSES)(np.full_like(masks, IGNORED), logits)) == 0


def test_its_gradient_is_that_of_finite_differences(logits, masks):
    masks[0, 0] = IGNORED
    planes = ops.convert_to_tensor(logits.transpose(0, 3, 1, 2))
    targets = class_planes(ops.convert_to_tensor(masks), CLASSES)
    weights = ops.sum(targets, axis=1, keepdims=True)

    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(planes)
        loss = ops.sum(3 * cross_entropy(planes, targets, weights))
    gradient = tape.gradient(loss, planes).numpy().transpose(0, 2, 3, 1)

    def loss_at(logits: np.ndarray) -> float:
        counted = masks != IGNORED
        found = chances(logits)[counted]
        return -3 * np.log(found[np.arange(len(found)), masks[counted]]).sum()

    step = 1e-3
    for place in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 4, 5, 1)]:
        moved = np.zeros_like(logits)
        moved[place] = step
        slope = (loss_at(logits + moved) - loss_at(logits - moved)) / (2 * step)
        assert gradient[place] == pytest.approx(slope, abs=2e-3)


def test_logits_too_large_for_their_exponential_keep_a_finite_loss(masks):
    logits = np.full((*masks.shape, CLASSES), -1e4, np.float32)
    logits[..., 0] = 1e4
    expected = 2e4 * (masks != 0).mean()
    assert float(PixelLoss(CLASSES)(masks, logits)) == pytest.approx(expected, rel=1e-5)


def test_the_measures_are_those_of_all_batches_together(logits, masks):
    masks[1, :2] = IGNORED
    iou, accuracy = MeanIoU(CLASSES), PixelAccuracy(CLASSES)
    for half in (slice(0, 1), slice(1, 2)):
        for measure in (iou, accuracy):
            measure.update_state(masks[half], logits[half])
    counted = masks != IGNORED
    predicted = logits.argmax(-1)[counted]
    counts = tf.math.confusion_matrix(masks[counted], predicted, CLASSES).numpy()
    hits = np.diag(counts)
    expected = (hits / (counts.sum(0) + counts.sum(1) - hits)).mean()
    assert float(iou.result()) == pytest.approx(expected, rel=1e-6)
    assert float(accuracy.result()) == pytest.approx(hits.sum() / counts.sum(), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 21, 150])
def test_bins_and_products_count_the_same_confusions(classes: int):
    rng = np.random.default_rng(2)
    masks, predicted = rng.integers(0, classes, (2, 3, 40, 50))
    masks[:, :5] = IGNORED
    in_bins, by_products = (
        ops.convert_to_numpy(count(ops.cast(masks, "uint8"), ops.cast(predicted, "int32"), classes))
        for count in (counted_in_bins, counted_by_products)
    )
    np.testing.assert_array_equal(in_bins, by_products)
    counted = masks != IGNORED
    expected = tf.math.confusion_matrix(masks[counted], predicted[counted], classes)
    np.testing.assert_array_equal(in_bins, expected)


def test_of_equal_logits_the_first_class_is_predicted(masks):
    accuracy = PixelAccuracy(CLASSES)
    accuracy.update_state(masks, np.zeros((*masks.shape, CLASSES), np.float32))
    assert float(accuracy.result()) == pytest.approx((masks == 0).mean())
