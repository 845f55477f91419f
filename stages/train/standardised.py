"""Score layers that are trained on standardised activations.

The taps' activations are of order 100 and differ from channel to channel, so a head is trained on
standardised ones. That is an affine map, and `fold` moves it into the score layers: what is
stored is a plain FCN that reads the backbone's activations as they are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from stages.shared.formats.features import Tap
from stages.shared.networks import fcn
from stages.shared.networks.families.preprocessing import Shape
from stages.shared.networks.fcn import HeadConfig, Score

# Lower limit of a channel's deviation, as a fraction of the typical deviation of its tap.
SMALLEST_DEVIATION = 0.1


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel of a tap, float32 (channels,)."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, tap: Tap) -> Self:
        """Those that features.json has of a tap."""
        return cls(np.array(tap.mean, np.float32), np.array(tap.deviation, np.float32))

    @property
    def scale(self) -> np.ndarray:
        """The divisor of each channel: its deviation, with a lower limit."""
        typical = float(np.sqrt(np.mean(np.square(self.deviation)))) or 1.0
        return np.maximum(self.deviation, SMALLEST_DEVIATION * typical).astype(np.float32)


class StandardisedScore(layers.Layer):
    """A 1x1 score layer on standardised activations, at the cost of one on plain ones.

    The standardisation goes into the kernel on every step (see `fold`), not into the activations,
    which are a thousand times as many.

    Shapes: (batch, height, width, channels) to (batch, height, width, classes), float32.

    Args:
        classes: their number.
        statistics: of the tap.
        dropout: share of the channels that are dropped from a picture while training, as in
            "Efficient Object Localization Using Convolutional Networks" (Tompson et al., section
            3.2). Neighbouring activations of a channel are correlated, so dropping single ones has
            little effect.
    """

    def __init__(
        self, classes: int, statistics: Statistics, dropout: float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.classes, self.statistics, self.dropout = classes, statistics, dropout
        self.seeds = keras.random.SeedGenerator()

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.classes), "zeros", name="kernel")
        self.bias = self.add_weight((self.classes,), "zeros", name="bias")

    def call(self, activations: KerasTensor, training: bool = False) -> KerasTensor:
        kernel = self.kernel / self.statistics.scale[:, None]
        if training and self.dropout:
            every = ops.ones_like(activations[:, 0, 0])
            kept = keras.random.dropout(every, self.dropout, seed=self.seeds)
            shift = ops.matmul(kept * self.statistics.mean, kernel)[:, None, None]
            activations = activations * kept[:, None, None]
        else:
            shift = ops.matmul(self.statistics.mean[None], kernel)
        return pixel_product(activations, kernel) + (self.bias - shift)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.classes)


def pixel_product(activations: KerasTensor, kernel: KerasTensor) -> KerasTensor:
    """Activations, (batch, height, width, channels), times a kernel, (channels, classes).

    The kernel's gradient is computed as (g^T x)^T: with so few classes that takes a fourth of the
    time of x^T g, which automatic differentiation takes.
    """

    @ops.custom_gradient
    def product(x: KerasTensor, kernel: KerasTensor) -> tuple[KerasTensor, object]:
        def gradient(
            *upstreams: KerasTensor, upstream: KerasTensor | None = None
        ) -> tuple[KerasTensor, KerasTensor]:
            (g,) = upstreams if upstream is None else (upstream,)
            return ops.matmul(g, ops.transpose(kernel)), ops.transpose(
                ops.matmul(ops.transpose(g), x)
            )

        return ops.matmul(x, kernel), gradient

    height, width, channels = ops.shape(activations)[1:]
    scores = product(ops.reshape(activations, (-1, channels)), kernel)
    return ops.reshape(scores, (-1, height, width, kernel.shape[-1]))


def head(
    config: HeadConfig,
    statistics: Mapping[str, Statistics],
    dropout: float = 0.0,
    image_size: tuple[int, int] | None = None,
) -> keras.Model:
    """A head like `fcn.head`, on standardised activations.

    Args:
        config: its stride, taps and classes.
        statistics: of each tap.
        dropout: share of the coarsest tap's channels dropped while training.
        image_size: (height, width) that the logits are cut to.
    """

    coarsest = next(iter(config.channels))

    def score_layer(tap: str, classes: int) -> layers.Layer:
        dropped = dropout if tap == coarsest else 0.0
        return StandardisedScore(classes, statistics[tap], dropped, name=f"score_{tap}")

    return fcn.head(config, image_size, score_layer)


def fold(score: Score, statistics: Statistics) -> Score:
    """Score weights for standardised activations to weights for the activations as they are.

    With x' = (x - mean) / scale: k.x' + b = (k / scale).x + (b - (mean / scale).k)
    """
    kernel = score.kernel / statistics.scale[:, None]
    return Score(kernel, score.bias - statistics.mean @ kernel)


def unfold(score: Score, statistics: Statistics) -> Score:
    """The inverse of `fold`."""
    bias = score.bias + statistics.mean @ score.kernel
    return Score(score.kernel * statistics.scale[:, None], bias)


def folded(
    trained: keras.Model, config: HeadConfig, statistics: Mapping[str, Statistics]
) -> keras.Model:
    """A head on plain activations with the same logits as `trained` on standardised ones."""
    plain = fcn.head(config)
    scores = fcn.scores(trained)
    fcn.set_scores(plain, {tap: fold(score, statistics[tap]) for tap, score in scores.items()})
    return plain
