"""The loss of a pixel: cross-entropy, with what segmentation adds to it.

Keras flattens pictures to rows of one pixel each; with a handful of classes, nearly all time then
goes into short rows. Here a class is a plane, and its gradient, known in closed form, is computed
in one go: a fifth of the time on a CPU, on any backend.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, ops

from stages.shared.records.ignore_label import IGNORED
from stages.shared.runtime.errors import UserError
from stages.train import distribution


class PixelLoss(keras.losses.Loss):
    """Cross-entropy, with Dice and Jaccard if wanted, of masks, integer (batch, height, width), and
    logits, (batch, height, width, classes).

    With class weights w, a pixel of class t counts w_t times and the sum is divided by the weights'
    sum, so their scale does not matter. Pixels labelled `IGNORED` count nowhere.

    Args:
        classes: their number.
        class_weights: one for each class; None: all alike.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1 (Szegedy et al.,
            "Rethinking the Inception Architecture for Computer Vision", section 7).
        dice: weight of the whole batch's Dice loss, see `overlaps`, added to the cross-entropy.
        jaccard: weight of the Jaccard loss, likewise.

    Example:
        >>> loss = PixelLoss(classes=3)
        >>> float(loss(np.zeros((1, 4, 4), "uint8"), np.zeros((1, 4, 4, 3), "float32")))
        1.0986123085021973
    """

    def __init__(
        self,
        classes: int,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        dice: float = 0.0,
        jaccard: float = 0.0,
    ) -> None:
        super().__init__(name="pixel_loss")
        self.classes = classes
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.dice, self.jaccard = dice, jaccard

    def call(self, masks: KerasTensor, logits: KerasTensor) -> KerasTensor:
        logits = ops.transpose(logits, (0, 3, 1, 2))
        truth = class_planes(masks, self.classes)
        counted = ops.expand_dims(ops.cast(ops.not_equal(masks, IGNORED), "float32"), 1)
        targets, weights = truth, counted
        if self.class_weights is not None:
            targets = truth * ops.reshape(ops.array(self.class_weights, "float32"), (1, -1, 1, 1))
            weights = ops.sum(targets, axis=1, keepdims=True)
        if self.label_smoothing:
            even = weights * (self.label_smoothing / self.classes)
            targets = targets * (1 - self.label_smoothing) + even
        pictures = ops.cast(ops.shape(logits)[0], "float32")
        # One value a picture. Keras takes their mean, and of several devices the mean of that; the
        # sums are those of the whole batch.
        scale = (
            distribution.replicas()
            * pictures
            / ops.maximum(distribution.summed(ops.sum(weights)), 1e-6)
        )
        loss = cross_entropy(logits, targets, weights) * scale
        if self.dice or self.jaccard:
            # Each device has the whole of it, and pictures to have it for (see `Batches`).
            dice, jaccard = overlaps(truth, ops.softmax(logits, axis=1) * counted)
            loss += self.dice * dice + self.jaccard * jaccard
        return loss


def overlaps(truth: KerasTensor, chances: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """The Dice and the Jaccard loss, averaged over the classes in the truth.

    Dice: 1 - 2 |truth * chances| / (|truth| + |chances|), Milletari et al., "V-Net", section 3,
    with sums for the sums of squares. Jaccard: 1 - |truth * chances| / (|truth| + |chances| -
    |truth * chances|), Rahman, Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks
    for Image Segmentation", equation 3. A class that is in no mask of the batch is left out.

    Args:
        truth: float32 (batch, classes, height, width), 0 or 1.
        chances: float32, the same shape, 0 to 1; 0 where a pixel is ignored.
    """
    axes = (0, 2, 3)
    parts = ops.stack([ops.sum(x, axes) for x in (truth * chances, truth, chances)])
    overlap, true, found = ops.unstack(distribution.summed(parts), 3)
    there = ops.cast(true > 0, "float32")
    dice = 1 - 2 * overlap / ops.maximum(true + found, 1)
    jaccard = 1 - overlap / ops.maximum(true + found - overlap, 1)
    classes = ops.maximum(ops.sum(there), 1)
    return ops.sum(there * dice) / classes, ops.sum(there * jaccard) / classes


def class_weights(
    wanted: dict[str, float] | str | None, pixels: dict[str, int]
) -> list[float] | None:
    """A weight for each class, in the order of the classes; None for equal weights.

    Args:
        wanted: `balanced` (the inverse of a class's share of the training split's pixels; a class
            without any gets 1), weights by class name (1 for a class that is not named), or None.
        pixels: of each class in the training split.

    Raises:
        UserError: a name is no class.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        even = sum(pixels.values()) / len(pixels)
        return [even / count if count else 1.0 for count in pixels.values()]
    if unknown := sorted(set(wanted) - set(pixels)):
        raise UserError(
            f"params.yaml: class_weights names {', '.join(unknown)}, which is not a class; "
            f"the classes are {', '.join(pixels)}"
        )
    return [wanted.get(name, 1.0) for name in pixels]


def class_planes(masks: KerasTensor, classes: int) -> KerasTensor:
    """Masks, integer (batch, height, width), as float32 (batch, classes, height, width): 1 in the
    plane of a pixel's class, 0 elsewhere; an ignored pixel is 0 in all."""
    numbers = ops.reshape(ops.arange(classes, dtype="int32"), (1, -1, 1, 1))
    planes = ops.equal(ops.expand_dims(masks, 1), ops.cast(numbers, masks.dtype))
    return ops.cast(planes, "float32")


def cross_entropy(logits: KerasTensor, targets: KerasTensor, weights: KerasTensor) -> KerasTensor:
    """Sum over each picture's pixels of weight * logsumexp(logits) - targets . logits, (batch,).

    Args:
        logits: float32 (batch, classes, height, width).
        targets: likewise; those of a pixel sum to its weight.
        weights: float32 (batch, 1, height, width).
    """

    @ops.custom_gradient
    def summed(logits: KerasTensor) -> tuple[KerasTensor, object]:
        shifted = logits - ops.max(logits, axis=1, keepdims=True)
        exponentials = ops.exp(shifted)
        totals = ops.sum(exponentials, axis=1, keepdims=True)

        def gradient(*upstreams: KerasTensor, upstream: KerasTensor | None = None) -> KerasTensor:
            (scale,) = upstreams if upstream is None else (upstream,)
            scale = ops.reshape(scale, (-1, 1, 1, 1))
            return scale * (exponentials * (weights / totals) - targets)

        axes = (1, 2, 3)
        return ops.sum(weights * ops.log(totals), axes) - ops.sum(targets * shifted, axes), gradient

    return summed(logits)
