"""Heads that are trained on standardised activations.

The taps' activations are of order 100 and differ from channel to channel, so a head is trained on
standardised ones. That is an affine map, and `fold` moves it into the projections: what is stored
is a plain head that reads the backbone's activations as they are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from stages.shared.formats.features import Tap
from stages.shared.networks import heads
from stages.shared.networks.families.preprocessing import Shape
from stages.shared.networks.heads import HeadConfig, Projection

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


class StandardisedProjection(layers.Layer):
    """A tap's projection on standardised activations, at the cost of one on plain ones.

    The standardisation goes into the kernel on every step (see `fold`), not into the activations,
    which are a thousand times as many.

    Shapes: (batch, height, width, channels) to (batch, height, width, filters), float32.

    Args:
        filters: channels of the result.
        statistics: of the tap.
        initializer: of the kernel.
        dropout: share of the channels that are dropped from a picture while training, as in
            "Efficient Object Localization Using Convolutional Networks" (Tompson et al., section
            3.2). Neighbouring activations of a channel are correlated, so dropping single ones has
            little effect.
    """

    def __init__(
        self,
        filters: int,
        statistics: Statistics,
        initializer: str = "zeros",
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filters, self.statistics = filters, statistics
        self.initializer, self.dropout = initializer, dropout
        self.seeds = keras.random.SeedGenerator()

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape, self.initializer, name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")

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
        return (*input_shape[:-1], self.filters)


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
    """A head of `heads.build`, on standardised activations.

    Args:
        config: its decoder, taps and classes.
        statistics: of each tap.
        dropout: share of the coarsest tap's channels dropped while training.
        image_size: (height, width) that the logits are cut to.
    """
    coarsest = next(iter(config.channels))

    def project(tap: str, filters: int, initializer: str) -> layers.Layer:
        dropped = dropout if tap == coarsest else 0.0
        name = heads.projection_name(tap)
        return StandardisedProjection(filters, statistics[tap], initializer, dropped, name=name)

    return heads.build(config, image_size, project)


def fold(projection: Projection, statistics: Statistics) -> Projection:
    """Weights for standardised activations to weights for the activations as they are.

    With x' = (x - mean) / scale: k.x' + b = (k / scale).x + (b - (mean / scale).k)
    """
    kernel = projection.kernel / statistics.scale[:, None]
    return Projection(kernel, projection.bias - statistics.mean @ kernel)


def unfold(projection: Projection, statistics: Statistics) -> Projection:
    """The inverse of `fold`."""
    bias = projection.bias + statistics.mean @ projection.kernel
    return Projection(projection.kernel * statistics.scale[:, None], bias)


def folded(
    trained: keras.Model, config: HeadConfig, statistics: Mapping[str, Statistics]
) -> keras.Model:
    """A head on plain activations with the same logits as `trained` on standardised ones."""
    plain = heads.build(config)
    heads.transfer(trained, plain, lambda tap, weights: fold(weights, statistics[tap]))
    return plain
