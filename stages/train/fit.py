"""How a model is fitted, whatever it reads."""

import math
from collections.abc import Sequence

import keras

from stages.shared.networks.devices import Memory
from stages.shared.runtime.errors import UserError
from stages.train import distribution
from stages.train.batches import AT_ONCE, Batches, array_bytes, held, read_errors
from stages.train.feed import feed
from stages.train.loops import Looped
from stages.train.losses import PixelLoss
from stages.train.metrics import MeanIoU, PixelAccuracy
from stages.train.optimizers import Averaged, optimizer
from stages.train.progress import EndsWithoutNumbers, EpochLines, Progress
from stages.train.sampling import Sampled
from stages.train.settings import Train
from stages.train.supplied import Augment, Resident, Supplied, resident_bytes

NO_MEMORY = Memory(0, 0)
# How many times the loss of the start the last epoch's is, if the steps are too long.
DIVERGED = 2


def fit(
    network: keras.Model,
    loss: PixelLoss,
    batches: Batches,
    validation: Batches,
    settings: Train,
    name: str,
    progress: Progress,
    policy: str = "float32",
    shares: Sequence[float] = (),
    augment: Augment | None = None,
    memory: Memory = NO_MEMORY,
    sampled: Sampled | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a network in place, to its best epoch, from the last epoch that `progress` has.

    Args:
        network: of what `batches` hold, to logits, float32 (batch, height, width, classes).
        loss: what is minimised.
        batches: the training split.
        validation: the validation split.
        settings: how to train.
        name: of the variant, for messages.
        progress: notes each epoch.
        policy: dtype policy that the trained layers run under.
        shares: of the learning rate, for each trainable weight; empty: all learn at the rate.
        augment: changes the training batches.
        memory: that both splits may take; they lie on the device, or if they take more, in the
            machine's, or are read from the disk in each epoch, to the same result.
        sampled: takes the network's place while training, for a share of the pixels.
        callbacks: more of Keras's.

    Raises:
        UserError: the loss is not finite, or what the batches are read from is damaged.
    """
    splits = (batches, validation)
    with read_errors(*splits):
        sizes = array_bytes(splits)
        resident = Resident(splits) if resident_bytes(sizes) <= memory.device else None
        if resident is None and sum(sizes) <= memory.machine:
            for split in splits:
                split.reader = held(split.reader)
    kind = Supplied
    if resident and distribution.loops():
        kind = Looped
        for split in splits:
            split.at_once = AT_ONCE
    model = kind(network, augment, resident, sampled)
    model.compile(
        optimizer=optimizer(settings, settings.epochs * len(batches), policy, shares),
        loss=loss,
        metrics=[MeanIoU(loss.classes), PixelAccuracy(loss.classes)],
    )
    model.optimizer.build(model.trainable_variables)
    progress.set_model(model)
    with read_errors(*splits):
        if distribution.looks_ahead():
            model.build_for(validation.read(validation.epoch(1)[0]))
        if not progress.restore():
            progress.start(measured(model, validation))
        done = len(progress.rows) - 1
        averaged = [Averaged(resumed=done > 0)] if settings.ema_momentum else []
        if done:
            print(f"{name}: continuing after epoch {done} of {settings.epochs}")
        model.fit(
            feed(batches.stream(done + 1)),
            steps_per_epoch=batches.steps,
            initial_epoch=done,
            epochs=done if progress.ended else settings.epochs,
            # The stream has its own order.
            shuffle=False,
            verbose=0,
            callbacks=[
                *averaged,
                # Keras takes a generator's first batches anew whenever it validates.
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda _, logs: logs.update(measured(model, validation))
                ),
                *callbacks,
                EndsWithoutNumbers(),
                progress,
                EpochLines(name, settings.epochs, len(batches), batches.at_once),
            ],
        )
    first, last = progress.rows[0]["val_loss"], progress.rows[-1]["loss"]
    way_out = (
        f"lower variants.{name}.learning_rate or train.learning_rate "
        f"(it was {settings.learning_rate:g})"
    )
    if not math.isfinite(last):
        raise UserError(
            f"the loss of {name} is no longer finite in epoch {len(progress.rows) - 1}; {way_out}"
        )
    if last > DIVERGED * first:
        print(f"note: the loss of {name} rose from {first:.4g} to {last:.4g}; {way_out}")


def measured(model: Supplied, validation: Batches) -> dict[str, float]:
    """Loss and metrics of the validation split, under names that begin with `val_`."""
    stream = feed(validation.stream(epochs=1))
    measures = model.evaluate(stream, steps=validation.steps, return_dict=True, verbose=0)
    return {f"val_{name}": value for name, value in measures.items()}
