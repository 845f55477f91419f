"""Mean IoU and pixel accuracy while training, as Keras metrics.

Keras has both, but on a CPU they take longer than the rest of a head's training step. These two
share one confusion matrix: TensorFlow finds the identical operations and runs them once.
"""

import keras
from keras import KerasTensor, ops

from stages.shared.networks import devices
from stages.shared.records.ignore_label import IGNORED
from stages.train.losses import class_planes


class ConfusionMetric(keras.metrics.Metric):
    """A metric computed from the confusion matrix of all pixels that are not ignored.

    Args:
        classes: their number.
    """

    def __init__(self, classes: int, name: str) -> None:
        super().__init__(name=name)
        self.classes = classes
        self.confusion = self.add_variable((classes, classes), "zeros", name="confusion")

    def update_state(
        self, masks: KerasTensor, logits: KerasTensor, sample_weight: None = None
    ) -> None:
        """Count pixels: masks, integer (batch, height, width), and logits, (..., classes)."""
        predicted = first_largest(ops.transpose(logits, (0, 3, 1, 2)))
        on_gpu = devices.compiles() or devices.gpus()
        count = counted_by_products if on_gpu else counted_in_bins
        self.confusion.assign_add(count(masks, predicted, self.classes))


def first_largest(planes: KerasTensor) -> KerasTensor:
    """The first class with the largest logit, int32 (batch, height, width), of logits (batch,
    classes, height, width); the last where one is not a number.

    On a CPU it takes a third of the time of Keras's argmax.
    """
    classes = planes.shape[1]
    numbers = ops.reshape(ops.arange(classes, dtype="int32"), (1, -1, 1, 1))
    largest = ops.equal(planes, ops.max(planes, axis=1, keepdims=True))
    return ops.min(ops.where(largest, numbers, classes - 1), axis=1)


def counted_in_bins(masks: KerasTensor, predicted: KerasTensor, classes: int) -> KerasTensor:
    """The confusion matrix, float32 (classes, classes), truth by prediction."""
    cells = ops.cast(masks, "int32") * classes + predicted
    cells = ops.where(ops.equal(masks, IGNORED), classes**2, cells)
    counts = ops.bincount(ops.reshape(cells, (-1,)), minlength=classes**2 + 1)
    return ops.reshape(ops.cast(counts[: classes**2], "float32"), (classes, classes))


def counted_by_products(masks: KerasTensor, predicted: KerasTensor, classes: int) -> KerasTensor:
    """The same by a product of one-hot planes, which XLA can compile, and which is the same from
    run to run on a GPU, unlike bins; with 150 classes it takes four times as long on a CPU."""
    truth, found = (
        ops.reshape(class_planes(x, classes), (-1, classes, ops.size(x[0])))
        for x in (masks, predicted)
    )
    return ops.sum(ops.matmul(truth, ops.transpose(found, (0, 2, 1))), axis=0)


class MeanIoU(ConfusionMetric):
    """Intersection over union, averaged over the classes that occur in truth, see `scores`."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, name="mean_iou")

    def result(self) -> KerasTensor:
        """The mean, 0 to 1."""
        hits = ops.diagonal(self.confusion)
        truth = ops.sum(self.confusion, axis=1)
        union = ops.sum(self.confusion, axis=0) + truth - hits
        occurring = ops.maximum(ops.sum(ops.cast(truth > 0, "float32")), 1)
        return ops.sum(hits / ops.maximum(union, 1)) / occurring


class PixelAccuracy(ConfusionMetric):
    """Share of the pixels whose class is right."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, name="pixel_accuracy")

    def result(self) -> KerasTensor:
        """The share, 0 to 1."""
        pixels = ops.maximum(ops.sum(self.confusion), 1)
        return ops.sum(ops.diagonal(self.confusion)) / pixels
