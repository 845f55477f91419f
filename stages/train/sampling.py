"""The loss on a share of the pixels."""

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.families.upsampling import by_matrices


def sampled(scores: keras.Model, stride: int, pixels: float, seed: int) -> "Sampled | None":
    """What trains a network on a share of the pixels, `train.pixels`; None for all of them."""
    step = round(pixels**-0.5)
    return Sampled(scores, stride, step, seed) if step > 1 else None


class Sampled(layers.Layer):
    """Logits and masks at every n-th row and column of the pictures, from an offset that is drawn
    for each batch.

    What is left out is neither upsampled nor scored: at a head's fine strides that is most of a
    step, and neighbouring pixels say nearly the same.

    Args:
        scores: of what a network reads, to its logits at a stride: (batch, height / stride, width /
            stride, classes).
        stride: of these logits.
        step: the n.
        seed: of the offsets.
    """

    def __init__(self, scores: keras.Model, stride: int, step: int, seed: int) -> None:
        super().__init__(name="sampled")
        self.scores, self.stride, self.step = scores, stride, step
        self.seeds = keras.random.SeedGenerator(seed)
        # It has no weights of its own, and validation, which comes first, does not call it.
        self.built = True

    def call(
        self, inputs: KerasTensor, masks: KerasTensor, training: bool = False
    ) -> tuple[KerasTensor, KerasTensor]:
        """Masks and logits, (batch, height // n, width // n) and the same with the classes."""
        rows, columns = (self._places(side) for side in ops.shape(masks)[1:3])
        scores = self.scores(inputs, training=training)
        masks = ops.take(ops.take(masks, rows, axis=1), columns, axis=2)
        return masks, by_matrices(scores, self.stride, rows, columns)

    def _places(self, side: int) -> KerasTensor:
        """Every n-th place of an axis; the offset is larger where that does not reach its end."""
        places = self.step * ops.arange(side // self.step, dtype="int32")
        spare = side % self.step + self.step
        return places + keras.random.randint((), 0, spare, dtype="int32", seed=self.seeds)
