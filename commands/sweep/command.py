"""Sweep: search for better settings of one head. Not a stage of dvc.yaml; run by hand.

    python -m commands.sweep --variant fcn8s --trials 12

Each trial is a DVC experiment, `sweep-fcn8s-07`, that trains the head on the stored features in a
folder of its own; the workspace stays as it is. The objective is the best validation mean IoU of
the epochs, never the test split. Trials that fall behind the others are stopped early.
Everything follows `seed`, and what is stopped early follows the epochs alone, however fast they
are: a sweep that is started again makes the same trials, and takes those that had finished from
DVC's run cache. But a training that fails leaves no epochs to judge by, unless they were seen
before.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from commands.arguments import command_line, count
from commands.internals import experiment_reference
from commands.programs import end, require
from stages.shared.runtime.console import bar, or_dash
from stages.shared.runtime.errors import UserError
from stages.shared.settings.reading import read
from stages.shared.settings.section import Name, Seed
from stages.train.settings import Train, Variant

# What is searched: settings of `train`, and their values.
SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(3e-4, 1e-1, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    "dropout": FloatDistribution(0.0, 0.7),
    "label_smoothing": FloatDistribution(0.0, 0.1),
    "dice": FloatDistribution(0.0, 1.0),
    "class_weights": CategoricalDistribution([None, "balanced"]),
}
# Trials at random, before TPE proposes any or the pruner ends any.
STARTUP_TRIALS = 4
# Ends a trial whose best epoch so far is below the median of the others' at that epoch.
PRUNER: optuna.pruners.BasePruner = optuna.pruners.MedianPruner(
    n_startup_trials=STARTUP_TRIALS, n_warmup_steps=2
)
POLL_SECONDS = 0.1

# Validation mean IoU of each epoch that a history has, from epoch 0 on.
Curve = list[float]


class Outcome(NamedTuple):
    """Result of a trial.

    Attributes:
        experiment: its name.
        overrides: the values of its settings, as text.
        state: complete, pruned or failed.
        best: its best validation mean IoU, as far as it came; None without an epoch.
        seconds: that it took.
    """

    experiment: str
    overrides: dict[str, str]
    state: TrialState
    best: float | None
    seconds: float

    @property
    def line(self) -> str:
        """Its row of the table."""
        best = or_dash(self.best, "{:.4f}".format)
        settings = " ".join(f"{key}={value}" for key, value in self.overrides.items())
        state = self.state.name.lower()
        return f"{self.experiment}  {best:>6}  {self.seconds:5.1f} s  {state:<8}  {settings}"


def sweep(variant: str, count: int) -> None:
    """Run a study of `count` trials, and print them and the command that applies the best.

    Raises:
        UserError: there is no such head, its inputs are missing, or it fails with its own settings.
    """
    settings = own_settings(variant)
    require_inputs(variant)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=read("seed", Seed), n_startup_trials=STARTUP_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=PRUNER)
    study.enqueue_trial(settings)
    outcomes: list[Outcome] = []
    with bar(f"sweep {variant}", count, "trial") as progress:
        for number in range(count):
            # The first leaves what the space does not hold as it is.
            searched = SPACE if number else {key: SPACE[key] for key in settings}
            outcomes.append(run_trial(study, variant, searched))
            progress.write(outcomes[-1].line)
            progress.update()
    report(outcomes)


def own_settings(variant: str) -> dict[str, Any]:
    """The variant's present settings, those that the space holds.

    The first trial sets these, and so is the variant as it is.

    Raises:
        UserError: it is no variant, or one that trains a network.
    """
    variants = read("variants", dict[Name, Variant])
    if variant not in variants:
        raise UserError(f"{variant} is not a variant; the variants are {', '.join(variants)}")
    if variants[variant].train != "head":
        raise UserError(
            f"variants.{variant} has train: {variants[variant].train}, which does not "
            "read features; use a variant with train: head"
        )
    settings = variants[variant].training(read("train", Train))
    return {
        key: getattr(settings, key)
        for key, distribution in SPACE.items()
        if holds(distribution, getattr(settings, key))
    }


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has this value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution)
    return distribution.low <= value <= distribution.high


def require_inputs(variant: str) -> None:
    """Check that a trial only has to run its own training.

    Raises:
        UserError: what the variant is trained on is not there, or not up to date.
    """
    settings = read(f"variants.{variant}", Variant)
    backbone, parent = settings.backbone, settings.parent
    target = f"features@{backbone}" if parent == backbone else f"train@{parent}"
    printed = output("dvc", "status", "--json", "--with-deps", target)
    # It follows params.yaml as a whole, and nothing follows from it.
    if changed := sorted(set(json.loads(printed)) - {"check"}):
        raise UserError(f"{changed[0]} is not up to date; run `dvc repro {target}` first")


def run_trial(study: optuna.Study, variant: str, searched: dict[str, BaseDistribution]) -> Outcome:
    """Run the study's next trial as an experiment, and tell the study what came of it.

    Args:
        study: of the trials so far.
        variant: to train.
        searched: the settings that the trial sets.

    Raises:
        UserError: the first trial, the variant as it is, failed.
    """
    trial = study.ask(searched)
    # The first has the variant's own values, to the last digit.
    shown = text if trial.number else exact
    overrides = {key: shown(value) for key, value in trial.params.items()}
    experiment = f"sweep-{variant}-{trial.number:02}"
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as log,
        experiment_run(experiment, variant, overrides, log) as process,
    ):
        pruned = watch(process, trial, variant)
        if pruned:
            end(process)
        failed = process.wait() != 0
        if failed and not pruned:
            log.seek(0)
            print(log.read(), file=sys.stderr)
    if not failed:
        # It may have ended before its last epochs were seen.
        pruned = pruned or falls_behind(trial, committed_curve(experiment, variant))
        if pruned:
            output("dvc", "exp", "remove", experiment)
    state = TrialState.PRUNED if pruned else TrialState.FAIL if failed else TrialState.COMPLETE
    seen = study.trials[trial.number].intermediate_values.values()
    best = max(seen, default=None)
    study.tell(trial, best if state == TrialState.COMPLETE else None, state)
    if state == TrialState.FAIL and not trial.number:
        raise UserError(f"{variant} fails with its current settings; see above")
    return Outcome(experiment, overrides, state, best, time.monotonic() - began)


def text(value: Any) -> str:
    """A value as `dvc exp run --set-param` reads it, a float in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else exact(value)


def exact(value: Any) -> str:
    """A value as `dvc exp run --set-param` reads it."""
    return "null" if value is None else str(value)


@contextmanager
def experiment_run(
    experiment: str, variant: str, overrides: dict[str, str], log: IO[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A running `dvc exp run`, in a session of its own; it is ended when this is left.

    An experiment of the same name is replaced.
    """
    if committed(experiment):
        output("dvc", "exp", "remove", experiment)
    command = ["dvc", "exp", "run", "--temp", "--name", experiment]
    for key, value in overrides.items():
        command += ["--set-param", f"++variants.{variant}.{key}={value}"]
    # The evaluation too, so that there is nothing to run for it once the trial is applied.
    command.append(f"evaluate@{variant}")
    with subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            yield process
        finally:
            end(process)


def watch(process: subprocess.Popen[bytes], trial: optuna.Trial, variant: str) -> bool:
    """Wait until the experiment ends or the pruner stops it; return whether it is pruned."""
    while process.poll() is None:
        folder = training_folder(process.pid)
        if folder is not None:
            with suppress(FileNotFoundError):
                history = folder / history_file(variant)
                if falls_behind(trial, curve_of(history.read_text(encoding="utf-8"))):
                    return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    return False


def training_folder(session: int) -> Path | None:
    """The folder in which a process of the session trains, once one does.

    Before that, the experiment's folder still holds the history of the last commit.
    """
    for process in Path("/proc").iterdir():
        # Any of them may end meanwhile.
        with suppress(OSError):
            if process.name.isdecimal() and os.getsid(int(process.name)) == session:
                command = (process / "cmdline").read_bytes().split(b"\0")
                if b"stages.train" in command:
                    return (process / "cwd").readlink()
    return None


def falls_behind(trial: optuna.Trial, curve: Curve) -> bool:
    """Report the epochs that are new to the study; whether the pruner ends the trial at one."""
    known = len(trial.study.trials[trial.number].intermediate_values)
    for epoch, value in enumerate(curve[known:], known):
        trial.report(value, epoch)
        if trial.should_prune():
            return True
    return False


def history_file(variant: str) -> Path:
    """The history of a variant's training, in the project's folder."""
    return Path("reports", variant, "history.csv")


def curve_of(history: str) -> Curve:
    """Validation mean IoU by epoch, from the text of a history.csv."""
    return [float(row["val_mean_iou"]) for row in csv.DictReader(history.splitlines())]


def committed(experiment: str) -> str:
    """The commit of an experiment that started from the last commit; empty if there is none."""
    head = output("git", "rev-parse", "HEAD").strip()
    name = experiment_reference(head, experiment)
    return output("git", "for-each-ref", "--format=%(objectname)", name).strip()


def committed_curve(experiment: str, variant: str) -> Curve:
    """Validation mean IoU by epoch of a finished experiment."""
    return curve_of(output("git", "show", f"{committed(experiment)}:./{history_file(variant)}"))


def output(*command: str) -> str:
    """What a command prints.

    Raises:
        UserError: it failed, or is not in PATH.
    """
    require(command[0])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"`{shlex.join(command)}` failed; see above")
    return done.stdout


def report(outcomes: list[Outcome]) -> None:
    """Print the finished trials, the best first, and what to do with them; one at least."""
    finished = [o for o in outcomes if o.state == TrialState.COMPLETE]
    finished.sort(key=lambda outcome: outcome.best or 0.0, reverse=True)
    print("\nvalidation mean IoU, the best first:")
    for outcome in finished:
        print(outcome.line)
    best, *others = (outcome.experiment for outcome in finished)
    print(f"\nTo apply the best and run what depends on it:\n  dvc exp apply {best} && dvc repro")
    if others:
        print(f"To remove the other trials:\n  dvc exp remove {' '.join(others)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command_line(__doc__)
    made.add_argument("--variant", required=True, help="with train: head, such as fcn8s")
    made.add_argument("--trials", type=count, default=12, help="how many (12)")
    return made


def main() -> None:
    """Run the command."""
    arguments = parser().parse_args()
    sweep(arguments.variant, arguments.trials)
