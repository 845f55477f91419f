"""Mean IoU and pixel accuracy while training, as Keras metrics.

Keras has both, but on a CPU they take longer than the rest of a head's training step. These two
share one confusion matrix: TensorFlow finds the identical operations and runs them once.
"""

import keras
from keras import KerasTensor, ops

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
        predicted = ops.argmax(ops.transpose(logits, (0, 3, 1, 2)), axis=1)
        # A product of one-hot planes is exact and, unlike bincount, deterministic on a GPU.
        truth, predicted = (
            ops.reshape(class_planes(x, self.classes), (-1, self.classes, ops.size(x[0])))
            for x in (masks, predicted)
        )
        counts = ops.matmul(truth, ops.transpose(predicted, (0, 2, 1)))
        self.confusion.assign_add(ops.sum(counts, axis=0))


class MeanIoU(ConfusionMetric):
    """Intersection over union, averaged over the classes that occur (see `scores.Scores`)."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, name="mean_iou")

    def result(self) -> KerasTensor:
        """The mean, 0 to 1."""
        hits = ops.diagonal(self.confusion)
        union = ops.sum(self.confusion, axis=0) + ops.sum(self.confusion, axis=1) - hits
        occurring = ops.maximum(ops.sum(ops.cast(union > 0, "float32")), 1)
        return ops.sum(hits / ops.maximum(union, 1)) / occurring


class PixelAccuracy(ConfusionMetric):
    """Share of the pixels whose class is right."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, name="pixel_accuracy")

    def result(self) -> KerasTensor:
        """The share, 0 to 1."""
        pixels = ops.maximum(ops.sum(self.confusion), 1)
        return ops.sum(ops.diagonal(self.confusion)) / pixels
