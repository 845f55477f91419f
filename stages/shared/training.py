"""How a network is fitted, whatever it reads: batches, optimiser, schedule, history, best epoch."""

import csv
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import KerasTensor, ops
from tqdm.keras import TqdmCallback

from stages.shared import devices, outputs
from stages.shared.errors import UserError
from stages.shared.losses import PixelLoss
from stages.shared.measures import MeanIoU, PixelAccuracy
from stages.shared.params import Train

MEASURES = ("loss", "mean_iou", "pixel_accuracy")
COLUMNS = ("epoch", *MEASURES, *(f"val_{measure}" for measure in MEASURES))
# "Fully Convolutional Networks for Semantic Segmentation", section 4.3.
MOMENTUM = 0.9
# DeepLab's "poly" policy (Chen et al., "DeepLab", section 4.1.1).
POLYNOMIAL_POWER = 0.9

Inputs = dict[str, np.ndarray] | np.ndarray
Logs = dict[str, float] | None


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
    """Batches of a reader; with a seed, in a new order each epoch.

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
        self.epoch = 0
        self._reorder()

    def __len__(self) -> int:
        return math.ceil(len(self.reader) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Inputs, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs, masks = self.reader.take(np.sort(chosen))
        if self.augment is not None:
            inputs, masks = self.augment(inputs, masks, (self.seed, self.epoch, index))
        return inputs, masks

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._reorder()

    def _reorder(self) -> None:
        self.order = np.arange(len(self.reader))
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(self.order)


class BestWeights(keras.callbacks.Callback):
    """Ends on the weights of the epoch with the best validation mean IoU, the first of equals.

    Args:
        start: what was measured before the first step, as epoch 0.
    """

    def __init__(self, start: dict[str, float]) -> None:
        super().__init__()
        self.best = start["val_mean_iou"]

    def on_train_begin(self, logs: Logs = None) -> None:
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs["val_mean_iou"] > self.best:
            self.best = logs["val_mean_iou"]
            self.weights = self.model.get_weights()

    def on_train_end(self, logs: Logs = None) -> None:
        self.model.set_weights(self.weights)


class HistoryFile(keras.callbacks.Callback):
    """Writes history.csv, a row an epoch as soon as the epoch is over."""

    def __init__(self, path: Path, start: dict[str, float]) -> None:
        super().__init__()
        self.file = outputs.fresh_file(path).open("w", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")
        self.writer.writeheader()
        self._row(0, start)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._row(epoch + 1, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        self.file.close()

    def _row(self, epoch: int, logs: dict[str, float]) -> None:
        values = {name: round(logs[name], 6) for name in COLUMNS[1:]}
        self.writer.writerow({"epoch": epoch} | values)
        self.file.flush()


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
    if wanted == "balanced":
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
    history: Path,
    policy: str = "float32",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a model in place, to its best epoch.

    Args:
        model: of what `batches` hold, to logits, float32 (batch, height, width, classes).
        loss: what is minimised.
        batches: the training split.
        validation: the validation split.
        settings: how to train.
        name: of the variant, for messages.
        history: a CSV file to write, a row an epoch, the start as epoch 0.
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
    measure = partial(model.evaluate, return_dict=True, verbose=0)
    start = measure(batches) | {f"val_{k}": v for k, v in measure(validation).items()}
    callbacks = [
        *callbacks,
        keras.callbacks.TerminateOnNaN(),
        BestWeights(start),
        HistoryFile(history, start),
        TqdmCallback(epochs=settings.epochs, desc=f"train {name}"),
    ]
    if settings.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_mean_iou", patience=settings.patience, mode="max")
        )
    done = model.fit(
        batches,
        validation_data=validation,
        epochs=settings.epochs,
        # `batches` has its own order; Keras would shuffle the batches once more.
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    if not math.isfinite(done.history["loss"][-1]):
        raise UserError(
            f"the loss of {name} is no longer finite in epoch {len(done.history['loss'])}; "
            f"lower variants.{name}.learning_rate or train.learning_rate "
            f"(it was {settings.learning_rate:g})"
        )


def compiles() -> bool | str:
    """Keras's `jit_compile`: XLA, but not for TensorFlow on a CPU, where compiling takes longer
    than it saves."""
    on_cpu = not devices.gpus()
    return False if keras.backend.backend() == "tensorflow" and on_cpu else "auto"
