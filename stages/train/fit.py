"""How a model is fitted, whatever it reads."""

import math
from collections.abc import Sequence
from functools import partial

import keras

from stages.shared.networks import devices
from stages.shared.runtime.errors import UserError
from stages.train.batches import Batches, read_errors
from stages.train.losses import PixelLoss
from stages.train.metrics import MeanIoU, PixelAccuracy
from stages.train.optimizers import optimizer
from stages.train.progress import EpochLines, Progress
from stages.train.settings import Train


def fit(
    model: keras.Model,
    loss: PixelLoss,
    batches: Batches,
    validation: Batches,
    settings: Train,
    name: str,
    progress: Progress,
    policy: str = "float32",
    shares: Sequence[float] = (),
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
        shares: of the learning rate, for each trainable weight; empty: all learn at the rate.
        callbacks: more of Keras's.

    Raises:
        UserError: the loss is not finite, or what the batches are read from is damaged.
    """
    model.compile(
        optimizer=optimizer(settings, settings.epochs * len(batches), policy, shares),
        loss=loss,
        metrics=[MeanIoU(loss.classes), PixelAccuracy(loss.classes)],
        jit_compile=compiles(),
    )
    model.optimizer.build(model.trainable_variables)
    progress.set_model(model)
    with read_errors(batches, validation):
        if not progress.restore():
            measure = partial(model.evaluate, return_dict=True, verbose=0)
            start = measure(batches)
            progress.start(start | {f"val_{k}": v for k, v in measure(validation).items()})
        done = len(progress.rows) - 1
        if done:
            print(f"{name}: continuing after epoch {done} of {settings.epochs}")
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
                EpochLines(name, settings.epochs),
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
    than it saves, nor on several devices, which sum inside a step."""
    one_gpu = devices.gpus() and devices.replicas() == 1
    return "auto" if one_gpu or keras.backend.backend() != "tensorflow" else False
