"""How a network is fitted, whatever it reads: batches, optimiser, schedule."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
from keras import KerasTensor, ops
from tqdm.keras import TqdmCallback

from stages.shared import devices
from stages.shared.dataset import IGNORED
from stages.shared.errors import UserError
from stages.shared.losses import PixelLoss
from stages.shared.measures import MeanIoU, PixelAccuracy
from stages.shared.params import Train
from stages.shared.progress import Progress

# "Fully Convolutional Networks for Semantic Segmentation", section 4.3.
MOMENTUM = 0.9
# DeepLab's "poly" policy (Chen et al., "DeepLab", section 4.1.1).
POLYNOMIAL_POWER = 0.9

Inputs = dict[str, np.ndarray] | np.ndarray


class Reader(Protocol):
    """Labelled pictures, or what stands for them, by index."""

    def __len__(self) -> int:
        """Number of pictures."""

    def take(self, indices: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """What the network reads of these pictures, and masks, uint8 (pictures, height, width)."""


class Augment(Protocol):
    """A random change of pictures and masks."""

    def __call__(
        self, pictures: np.ndarray, masks: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same pictures and masks, changed as `seed` has it."""


class Batches(keras.utils.PyDataset):
    """Batches of a reader; with a seed, in a new order each epoch, see `begin`.

    Where several processes train together, each takes its share of every batch. The last batch may
    then be filled up with pictures of which every pixel is ignored, so that the shares are equal.

    Args:
        reader: the split.
        batch_size: pictures in a batch; the last may have fewer.
        seed: of the order; None keeps the order of the records.
        augment: changes each batch; needs a seed.
    """

    def __init__(
        self,
        reader: Reader,
        batch_size: int,
        seed: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.reader, self.batch_size, self.seed, self.augment = reader, batch_size, seed, augment
        self.begin(0)

    def __len__(self) -> int:
        return math.ceil(len(self.reader) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Inputs, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs, masks = self.reader.take(np.sort(chosen))
        if self.augment is not None:
            assert isinstance(inputs, np.ndarray), "pictures can be changed, activations can't"
            with devices.alone():
                inputs, masks = self.augment(inputs, masks, (self.seed or 0, self.epoch, index))
        if devices.processes() == 1:
            return inputs, masks
        assert isinstance(inputs, np.ndarray), "heads are trained by one process"
        return share(inputs, 0), share(masks, IGNORED)

    def begin(self, epoch: int) -> None:
        """Set the order, and the changes, of an epoch; epoch 0 is before the first step."""
        self.epoch = epoch
        self.order = np.arange(len(self.reader))
        if self.seed is not None:
            np.random.default_rng((self.seed, epoch)).shuffle(self.order)


def share(batch: np.ndarray, filling: int) -> np.ndarray:
    """This process's part of a batch, (pictures, ...), filled up to be as large as the others'."""
    processes = devices.processes()
    missing = -len(batch) % processes
    filled = np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1), constant_values=filling)
    return np.split(filled, processes)[devices.process()]


@keras.saving.register_keras_serializable("stages")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose first `steps` rise in a straight line from next to nothing."""

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int
    ) -> None:
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: KerasTensor) -> KerasTensor:
        share = (ops.cast(step, "float32") + 1) / max(self.steps, 1)
        return self.schedule(step) * ops.minimum(share, 1)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "steps": self.steps}


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


def optimizer(settings: Train, steps: int, policy: str = "float32") -> keras.optimizers.Optimizer:
    """The optimiser for a training of so many steps under a Keras dtype policy."""
    options = {
        "learning_rate": schedule(settings, steps),
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
    }
    if settings.optimizer == "sgd":
        chosen = keras.optimizers.SGD(momentum=MOMENTUM, **options)
    else:
        chosen = keras.optimizers.AdamW(**options)
    # float16 has no room for small gradients.
    return keras.optimizers.LossScaleOptimizer(chosen) if policy == "mixed_float16" else chosen


def class_weights(
    wanted: dict[str, float] | str | None, pixel_share: dict[str, float]
) -> list[float] | None:
    """A weight for each class, in the order of the classes; None where all count alike.

    Args:
        wanted: `balanced` (the inverse of a class's share of the training split's pixels; a class
            without any gets 1), weights by class name (1 for a class that is not named), or None.
        pixel_share: of each class in the training split, 0 to 1.

    Raises:
        UserError: a name is no class.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        count = len(pixel_share)
        return [1 / (count * share) if share else 1.0 for share in pixel_share.values()]
    if unknown := sorted(set(wanted) - set(pixel_share)):
        raise UserError(
            f"params.yaml: class_weights names {', '.join(unknown)}, which is no class; "
            f"the classes are {', '.join(pixel_share)}"
        )
    return [wanted.get(name, 1.0) for name in pixel_share]


def fit(
    model: keras.Model,
    loss: PixelLoss,
    batches: Batches,
    validation: Batches,
    settings: Train,
    name: str,
    progress: Progress,
    policy: str = "float32",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a model in place, to its best epoch, from the last epoch that `progress` has.

    Args:
        model: of what `batches` hold, to logits, float32 (batch, height, width, classes).
        loss: what is minimised.
        batches: the training split.
        validation: the validation split.
        settings: how to train.
        name: of the variant, for messages.
        progress: notes each epoch.
        policy: dtype policy that the trained layers run under.
        callbacks: more of Keras's.

    Raises:
        UserError: the loss is not finite.
    """
    model.compile(
        optimizer=optimizer(settings, settings.epochs * len(batches), policy),
        loss=loss,
        metrics=[MeanIoU(loss.classes), PixelAccuracy(loss.classes)],
        jit_compile=compiles(),
    )
    model.optimizer.build(model.trainable_variables)
    progress.set_model(model)
    if not progress.restore():
        measure = partial(model.evaluate, return_dict=True, verbose=0)
        start = measure(batches)
        progress.start(start | {f"val_{k}": v for k, v in measure(validation).items()})
    done = len(progress.rows) - 1
    if done:
        print(f"{name}: going on after epoch {done} of {settings.epochs}")
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=done,
        epochs=done if progress.ended else settings.epochs,
        # `batches` has its own order; Keras would shuffle the batches once more.
        shuffle=False,
        verbose=0,
        callbacks=[
            *callbacks,
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, _: batches.begin(epoch + 1)
            ),
            keras.callbacks.TerminateOnNaN(),
            progress,
            TqdmCallback(epochs=settings.epochs, desc=f"train {name}"),
        ],
    )
    if not math.isfinite(progress.rows[-1]["loss"]):
        raise UserError(
            f"the loss of {name} is no longer finite in epoch {len(progress.rows) - 1}; "
            f"lower variants.{name}.learning_rate or train.learning_rate "
            f"(it was {settings.learning_rate:g})"
        )


def compiles() -> bool | str:
    """Keras's `jit_compile`: XLA, but not for TensorFlow on a CPU, where compiling takes longer
    than it saves."""
    on_cpu = not devices.gpus()
    return False if keras.backend.backend() == "tensorflow" and on_cpu else "auto"
