"""Optimisers, and the learning rate over a training."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor, ops

from stages.train import distribution
from stages.train.settings import Train

# "Fully Convolutional Networks for Semantic Segmentation", section 4.3.
MOMENTUM = 0.9
# In the names of the weights that do not decay: biases, and scales and offsets of normalisations.
NOT_DECAYED = ["bias", "gamma", "beta"]
# DeepLab's "poly" policy (Chen et al., "DeepLab", section 4.1.1).
POLYNOMIAL_POWER = 0.9


@keras.saving.register_keras_serializable("stages")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule with a linear warm-up over the first `steps`.

    Keras warms up CosineDecay alone, and begins with a step of rate 0.
    """

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int
    ) -> None:
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: KerasTensor) -> KerasTensor:
        share = (ops.cast(step, "float32") + 1) / max(self.steps, 1)
        return self.schedule(step) * ops.minimum(share, 1)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "steps": self.steps}


class _Shared(keras.optimizers.Optimizer):
    """Each weight learns at a share of the learning rate; decay is at the rate itself.

    Attributes:
        shares: of the weights, in their order; empty: all learn at the rate itself.
    """

    shares: Sequence[float] = ()

    def update_step(
        self, gradient: KerasTensor, variable: KerasTensor, learning_rate: KerasTensor
    ) -> None:
        """Update one weight."""
        share = self.shares[self._get_variable_index(variable)] if self.shares else 1.0
        super().update_step(gradient, variable, learning_rate * share)


class SharedSGD(_Shared, keras.optimizers.SGD):
    """SGD, see `_Shared`."""


class SharedAdamW(_Shared, keras.optimizers.AdamW):
    """AdamW, see `_Shared`."""


class _Summed(keras.optimizers.Optimizer):
    """Clips the gradients of all devices together; Keras clips those of each device by itself."""

    def apply(self, grads: list[KerasTensor], trainable_variables: Any = None) -> None:
        """Update the weights."""
        share = distribution.replicas()
        # A weight that nothing reads has none.
        there = [grad for grad in grads if grad is not None]
        found = iter(distribution.summed(there))
        summed = [None if grad is None else next(found) / share for grad in grads]
        super().apply(summed, trainable_variables)


class SummedSGD(_Summed, SharedSGD):
    """SGD, see `_Summed`."""


class SummedAdamW(_Summed, SharedAdamW):
    """AdamW, see `_Summed`."""


class Averaged(keras.callbacks.SwapEMAWeights):
    """Puts the average of the weights in their place between the epochs, see `ema_momentum`.

    Args:
        resumed: whether it is there already, as in the state that an epoch leaves.
    """

    def __init__(self, resumed: bool) -> None:
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the average there, after the last epoch as after all others: Keras then has both
        share one array, which JAX frees in the validation that follows."""
        super().on_epoch_end(-1, logs)


def schedule(settings: Train, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over all `steps` of a training."""
    schedules = keras.optimizers.schedules
    rate = settings.learning_rate
    planned = {
        "constant": lambda: schedules.PolynomialDecay(rate, steps, end_learning_rate=rate),
        "cosine": lambda: schedules.CosineDecay(rate, steps),
        "polynomial": lambda: schedules.PolynomialDecay(
            rate, steps, end_learning_rate=0.0, power=POLYNOMIAL_POWER
        ),
    }[settings.schedule]()
    return WarmUp(planned, round(settings.warmup * steps))


def optimizer(
    settings: Train, steps: int, policy: str = "float32", shares: Sequence[float] = ()
) -> keras.optimizers.Optimizer:
    """The optimiser for a training.

    Args:
        settings: of the training.
        steps: of all of it.
        policy: Keras dtype policy that the trained layers run under.
        shares: of the learning rate, for each trainable weight; empty: all learn at the rate.
    """
    options = {
        "learning_rate": schedule(settings, steps),
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
    }
    if settings.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": settings.ema_momentum}
    if settings.clip_norm and distribution.replicas() > 1:
        # The gradients are summed once more after they are clipped.
        options["global_clipnorm"] = settings.clip_norm / distribution.replicas()
        sgd, adamw = SummedSGD, SummedAdamW
    else:
        sgd, adamw = SharedSGD, SharedAdamW
    chosen = sgd(momentum=MOMENTUM, **options) if settings.optimizer == "sgd" else adamw(**options)
    chosen.shares = tuple(shares)
    if settings.weight_decay:
        chosen.exclude_from_weight_decay(var_names=NOT_DECAYED)
    # float16 has no room for small gradients.
    return keras.optimizers.LossScaleOptimizer(chosen) if policy == "mixed_float16" else chosen
