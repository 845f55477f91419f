"""State of a training: its history, its best weights and what it needs to resume.

Keras's BackupAndRestore saves only the weights and the optimiser. An exact resume also needs the
random state of dropout, the best epoch so far and the history.
"""

import csv
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import ops

from stages.shared.runtime import console, disk, stopping

MEASURES = ("loss", "mean_iou", "pixel_accuracy")
COLUMNS = ("epoch", *MEASURES, *(f"val_{measure}" for measure in MEASURES))

Logs = dict[str, float] | None


class Progress(keras.callbacks.Callback):
    """Saves the state of a training after each epoch, and sets the best weights at its end.

    The best epoch is the first with the highest validation mean IoU, the start, epoch 0, included.

    Args:
        file: of the state; it may hold that of the same training, interrupted.
        epochs: of the whole training.
        patience: epochs without a better one after which training ends; None: never.
        kept: whether the state outlasts an interruption.
        show: is called with this whenever an epoch is kept.

    Attributes:
        rows: of history.csv; row n is epoch n. The start is measured on the validation split alone;
            NaN for the rest.
        best_epoch: so far.
    """

    def __init__(
        self,
        file: Path,
        epochs: int,
        patience: int | None = None,
        kept: bool = True,
        show: Callable[["Progress"], None] = lambda progress: None,
    ) -> None:
        super().__init__()
        self.file, self.epochs, self.patience = file, epochs, patience
        self.kept, self.show = kept, show
        self.rows: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] = []

    @property
    def ended(self) -> bool:
        """Whether there is no epoch left to train."""
        epoch = len(self.rows) - 1
        waited = self.patience is not None and epoch - self.best_epoch >= self.patience
        return waited or epoch >= self.epochs

    def start(self, measured: dict[str, float]) -> None:
        """Take what was measured before the first step as epoch 0."""
        self._add(0, dict.fromkeys(MEASURES, math.nan) | measured)
        self.best_weights = self.model.network.get_weights()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add the epoch to the history, and save the state."""
        self._add(epoch + 1, logs or {})
        if not math.isfinite(self.rows[-1]["loss"]):
            return
        if self.rows[-1]["val_mean_iou"] > self.rows[self.best_epoch]["val_mean_iou"]:
            self.best_epoch = epoch + 1
            self.best_weights = self.model.network.get_weights()
        self.model.stop_training = self.ended
        disk.replace(self.file, self._write)
        self._stands()

    def on_train_end(self, logs: Logs = None) -> None:
        """Set the best weights."""
        self.model.network.set_weights(self.best_weights)

    def restore(self) -> bool:
        """Restore the state of the same training, if the file is complete."""
        try:
            with np.load(self.file) as state:
                variables = [state[f"variable_{n}"] for n in range(len(self._variables()))]
                best = [state[f"best_{n}"] for n in range(len(self.model.network.weights))]
                noted = json.loads(str(state["noted"]))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return False
        self.rows, self.best_epoch, self.best_weights = noted["rows"], noted["best_epoch"], best
        for variable, value in zip(self._variables(), variables, strict=True):
            variable.assign(value)
        self._stands()
        return True

    def write_history(self, path: Path) -> None:
        """Write history.csv, a row an epoch."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in self.rows:
                values = (row[name] for name in COLUMNS)
                writer.writerow(["" if math.isnan(value) else value for value in values])

    def write_summary(self, path: Path) -> None:
        """Write training.json: the last epoch, the best, and what that gained over the start."""
        last, best = self.rows[-1], self.rows[self.best_epoch]
        summary = {
            "epoch": last["epoch"],
            "train_loss": last["loss"],
            "val_loss": last["val_loss"],
            "val_mean_iou": last["val_mean_iou"],
            "best_epoch": best["epoch"],
            "best_val_mean_iou": best["val_mean_iou"],
            "val_mean_iou_gain": best["val_mean_iou"] - self.rows[0]["val_mean_iou"],
        }
        # JSON has no value that is not finite.
        rounded = {k: round(v, 6) if math.isfinite(v) else None for k, v in summary.items()}
        path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")

    def _add(self, epoch: int, measured: dict[str, float]) -> None:
        # As history.csv has them, so that what is read from there has the same best epoch.
        rounded = {name: round(float(measured[name]), 6) for name in COLUMNS[1:]}
        self.rows.append({"epoch": epoch} | rounded)

    def _variables(self) -> list[keras.Variable]:
        """The weights, the states of random numbers, and the optimiser's."""
        return [*self.model.state, *self.model.optimizer.variables]

    def _write(self, path: Path) -> None:
        arrays = {f"variable_{n}": ops.convert_to_numpy(v) for n, v in enumerate(self._variables())}
        arrays |= {f"best_{n}": weights for n, weights in enumerate(self.best_weights)}
        noted = json.dumps({"rows": self.rows, "best_epoch": self.best_epoch})
        with path.open("wb") as file:
            np.savez(file, noted=np.array(noted), **arrays)

    def _stands(self) -> None:
        self.show(self)
        if self.kept:
            stopping.stands(f"{len(self.rows) - 1} of {self.epochs} epochs are finished and kept")


class EndsWithoutNumbers(keras.callbacks.TerminateOnNaN):
    """Ends a training whose loss is not finite.

    With JAX it looks while the next step is computed: Keras waits for each step, and a GPU then for
    Python, unless all that it calls after a step is `async_safe`. With TensorFlow it always waits.
    """

    async_safe = True


class EpochLines(keras.callbacks.Callback):
    """Shows a training: a bar for each epoch on a terminal, a line for each elsewhere.

    Args:
        name: of the variant.
        epochs: of the whole training.
        batches: in an epoch.
        at_once: batches in a step.
    """

    async_safe = True

    def __init__(self, name: str, epochs: int, batches: int, at_once: int = 1) -> None:
        super().__init__()
        self.name, self.epochs, self.batches, self.at_once = name, epochs, batches, at_once

    def on_train_begin(self, logs: Logs = None) -> None:
        """Begin the bar."""
        self.bar = console.bar(self.name, self.batches, "batch")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin the bar anew."""
        self.bar.set_description(f"{self.name}: epoch {epoch + 1}/{self.epochs}")
        self.bar.reset()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count the batches of a step."""
        self.bar.update(min(self.at_once, self.batches - self.bar.n))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Show the epoch's measures."""
        logs = logs or {}
        self.bar.set_postfix_str(f"validation mean IoU {logs['val_mean_iou']:.1%}")
        if self.bar.disable:
            print(
                f"{self.name}: epoch {epoch + 1}/{self.epochs}, loss {logs['loss']:.4f}, mean IoU "
                f"{logs['mean_iou']:.1%}, validation loss {logs['val_loss']:.4f}, validation mean "
                f"IoU {logs['val_mean_iou']:.1%}",
                flush=True,
            )

    def on_train_end(self, logs: Logs = None) -> None:
        """End the bar."""
        self.bar.close()
