"""`make sweep` on the tiny project: real trials, real experiments, a real end of a pruned one."""

import csv
import os
import re
import signal
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution

from commands.sweep import command as sweep
from stages.shared.settings.reading import load
from stages.train.settings import Train
from tests.conftest import (
    FAULTS,
    ROOT,
    Project,
    clone,
    copy_of,
    processes_in,
    wait_until,
    wait_until_runs,
)
from tests.warm import COLD_DVC

# A value that the space does not have, and one of more digits than a trial's line shows.
OUTSIDE, PRECISE = 0.05, 0.123456
TRIALS = [f"sweep-fcn8s-{number:02}" for number in range(3)]
# A sweep whose second trial is pruned as soon as it has trained an epoch.
PRUNED = """
from optuna.pruners import BasePruner
from commands.sweep import command as sweep

class TheSecond(BasePruner):
    def prune(self, study, trial):
        return trial.number == 1 and bool(trial.intermediate_values)

sweep.PRUNER = TheSecond()
sweep.sweep("fcn8s", 2)
"""


class Swept(Project):
    """A project in which a sweep has run: what it printed, and the workspace before and after."""

    printed: str
    before: dict[str, object]
    after: dict[str, object]

    def workspace(self) -> dict[str, object]:
        """All that a sweep could change in it."""
        features = sorted((self.folder / "data/features/vgg19/head").iterdir())
        return {
            "files": self.digests("params.yaml", "dvc.lock", "data", "models", "reports"),
            "status": self.run("git", "status", "--porcelain").stdout,
            "inodes of features": [path.stat().st_ino for path in features],
            "head": self.run("git", "rev-parse", "HEAD").stdout,
        }

    def histories(self) -> dict[str, list[float]]:
        """Validation mean IoU by epoch, of each experiment that Git has."""
        refs = ("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*")
        found = {}
        for ref in self.run(*refs).stdout.split():
            history = self.run("git", "show", f"{ref}:reports/fcn8s/history.csv").stdout
            rows = csv.DictReader(history.splitlines())
            found[Path(ref).name] = [float(row["val_mean_iou"]) for row in rows]
        return found


@pytest.fixture(scope="module")
def swept(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A clone of the built project after a sweep of three trials."""
    project = Swept(tmp_path_factory.mktemp("swept") / "project")
    clone(built_project, project.folder)
    project.set_params({"variants.fcn8s.weight_decay": OUTSIDE, "variants.fcn8s.dropout": PRECISE})
    project.before = project.workspace()
    sweep = ("python", "-m", "commands.sweep", "--variant=fcn8s", "--trials=3")
    project.printed = project.run(*sweep, **COLD_DVC).stdout
    project.after = project.workspace()
    return project


def best_of(printed: str) -> str:
    """The experiment that it says to apply."""
    return re.search(r"^  dvc exp apply (\S+) && dvc repro$", printed, re.MULTILINE)[1]


def test_each_trial_is_an_experiment_and_the_best_one_is_named(swept: Swept):
    histories = swept.histories()
    assert sorted(histories) == TRIALS
    best = best_of(swept.printed)
    assert max(histories[best]) == max(max(history) for history in histories.values())
    for name, history in histories.items():
        assert f"{name}  {max(history):.4f} " in swept.printed


def test_trials_differ_and_the_first_has_the_settings_that_the_variant_has(swept: Swept):
    lines = {re.search(rf"^{name} .* complete +(.+)$", swept.printed, re.M)[1] for name in TRIALS}
    assert len(lines) == 3
    train = swept.params["train"]
    first = re.search(r"^sweep-fcn8s-00 .*$", swept.printed, re.M)[0]
    assert f"learning_rate={train['learning_rate']} " in first
    assert f"dropout={PRECISE} " in first
    assert "weight_decay" not in first
    (ref,) = swept.run(
        "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*-00"
    ).stdout.split()
    trained = yaml.safe_load(swept.run("git", "show", f"{ref}:params.yaml").stdout)
    assert trained["variants"]["fcn8s"]["weight_decay"] == OUTSIDE
    assert trained["variants"]["fcn8s"]["dropout"] == PRECISE


def test_the_workspace_is_as_it_was(swept: Swept):
    assert swept.after == swept.before
    assert processes_in(swept.folder) == []


def test_the_same_sweep_again_makes_the_same_trials_and_trains_none(swept: Swept, tmp_path: Path):
    before = swept.histories()
    # Every stage that runs leaves a file there.
    watched = COLD_DVC | {"PYTHONPATH": str(FAULTS), "FAULT_COUNTS": str(tmp_path)}
    again = swept.run("python", "-m", "commands.sweep", "--variant=fcn8s", "--trials=3", **watched)
    assert list(tmp_path.iterdir()) == []
    assert swept.histories() == before
    assert best_of(again.stdout) == best_of(swept.printed)


def test_the_best_can_be_applied_and_then_nothing_is_left_to_run(swept: Swept, tmp_path: Path):
    best, printed = best_of(swept.printed), swept.printed
    swept = Swept(copy_of(swept, tmp_path / "applied").folder)
    swept.run("dvc", "exp", "apply", best)
    rows = csv.DictReader((swept.folder / "reports/fcn8s/history.csv").open())
    assert [float(row["val_mean_iou"]) for row in rows] == swept.histories()[best]
    assert "learning_rate" in swept.params["variants"]["fcn8s"]
    assert swept.run("dvc", "repro", "evaluate@fcn8s").stdout.count("Running stage") == 0
    others = re.search(r"^  dvc exp remove (.+)$", printed, re.M)[1].split()
    assert {best, *others} == set(TRIALS)
    swept.run("dvc", "exp", "remove", *others)
    assert list(swept.histories()) == [best]


def test_a_pruned_trial_ends_at_once_and_leaves_nothing(built_project: Project, tmp_path: Path):
    project = Swept(tmp_path / "project")
    clone(built_project, project.folder)
    # Long enough to be ended in the middle.
    project.set_params({"variants.fcn8s.epochs": 30})
    before = project.workspace()
    done = project.run("python", "-c", PRUNED, **COLD_DVC)
    assert re.search(r"^sweep-fcn8s-00 .* complete ", done.stdout, re.M)
    assert re.search(r"^sweep-fcn8s-01 .* pruned ", done.stdout, re.M)
    assert list(project.histories()) == ["sweep-fcn8s-00"]
    assert project.workspace() == before
    wait_until(lambda: processes_in(project.folder) == [])
    assert list((project.folder / ".dvc/tmp/exps/standalone").glob("tmp*")) == []


def test_ctrl_c_ends_the_trial_that_runs_and_leaves_nothing(built_project: Project, tmp_path: Path):
    project = Swept(tmp_path / "project")
    clone(built_project, project.folder)
    project.set_params({"variants.fcn8s.epochs": 1_000_000})
    before = project.workspace()
    command = ("python", "-m", "commands.sweep", "--variant=fcn8s", "--trials=2")
    process = project.start(*command, **COLD_DVC)
    wait_until_runs("stages.train", process, project.folder)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in stderr
    wait_until(lambda: processes_in(project.folder) == [])
    assert project.histories() == {}
    assert project.workspace() == before


def study(curves: list[list[float]]) -> optuna.Study:
    """A study that has seen these trials, epoch by epoch."""
    made = optuna.create_study(direction="maximize", pruner=sweep.PRUNER)
    for curve in curves:
        trial = made.ask(sweep.SPACE)
        sweep.falls_behind(trial, curve)
        made.tell(trial, max(curve))
    return made


@pytest.mark.parametrize(("value", "pruned"), [(0.1, True), (0.9, False)])
def test_what_falls_behind_the_others_is_pruned(value: float, pruned: bool):
    trial = study([[0.1, 0.4, 0.5, 0.6, 0.7]] * sweep.STARTUP_TRIALS).ask(sweep.SPACE)
    assert not sweep.falls_behind(trial, [0.1, value]), "one epoch says little"
    assert sweep.falls_behind(trial, [0.1, value, value, value]) == pruned


def test_what_the_study_knows_of_a_pruned_trial_does_not_follow_how_fast_it_was_read():
    known = []
    curve = [0.1, 0.2, 0.1, 0.9, 0.9]
    for steps in ([5], [1, 2, 3], [2, 5]):
        trial = study([[0.1, 0.4, 0.5, 0.6, 0.7]] * sweep.STARTUP_TRIALS).ask(sweep.SPACE)
        assert any(sweep.falls_behind(trial, curve[:step]) for step in steps)
        known.append(trial.study.trials[trial.number].intermediate_values)
    assert known == [{0: 0.1, 1: 0.2, 2: 0.1}] * 3


@pytest.mark.parametrize("key", sweep.SPACE)
def test_every_value_that_is_searched_is_a_legal_setting(key: str):
    distribution = sweep.SPACE[key]
    if isinstance(distribution, CategoricalDistribution):
        values = distribution.choices
    else:
        values = (distribution.low, distribution.high)
    train = load(ROOT / "profiles/demo.yaml")["train"]
    for value in values:
        assert getattr(Train(**train | {key: value}), key) == value


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        (
            {},
            ["--variant=fcn4s"],
            "fcn4s is not a variant; the variants are fcn32s, fcn16s, fcn8s, ",
        ),
        ({}, ["--variant=fcn8s-finetuned"], "use a variant with train: head"),
        ({}, ["--variant=fcn8s", "--trials=0"], "'0' is not a whole number above 0"),
        (
            {"backbones.vgg19.width": 0.125},
            ["--variant=fcn32s"],
            "backbone@vgg19 is not up to date; run `dvc repro features@vgg19` first",
        ),
        (
            {"variants.fcn16s.dropout": 0.1},
            ["--variant=fcn8s"],
            "train@fcn16s is not up to date; run `dvc repro train@fcn16s` first",
        ),
    ],
    ids=["unknown", "a network", "no trials", "no features", "a parent that has changed"],
)
def test_a_mistake_gets_a_sentence(changes, arguments, sentence, project: Project):
    project.set_params(changes)
    done = project.command("sweep", *arguments, check=False)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
