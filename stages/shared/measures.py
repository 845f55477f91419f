"""Mean IoU and pixel accuracy while training, as Keras metrics.

Keras has both, but on a CPU they take as long as the rest of a head's training step. These two
share one confusion matrix: TensorFlow finds the identical operations and runs them once.
"""

import keras
from keras import KerasTensor, ops


class ConfusionMetric(keras.metrics.Metric):
    """A metric that is read off the confusion matrix of all pixels seen.

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
        """Count pixels: masks, integer (..., height, width), and logits, (..., classes)."""
        # A product of one-hot rows is exact and, unlike bincount, deterministic on a GPU.
        truth = ops.one_hot(ops.reshape(masks, (-1,)), self.classes, dtype="float32")
        predicted = ops.argmax(ops.reshape(logits, (-1, self.classes)), axis=-1)
        predicted = ops.one_hot(predicted, self.classes, dtype="float32")
        self.confusion.assign_add(ops.matmul(ops.transpose(truth), predicted))


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
