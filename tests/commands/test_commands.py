"""What all commands have in common, and the shortest of them."""

import shutil
import subprocess
import sys
from importlib import import_module

import pytest

from tests.conftest import ROOT, Project

COMMANDS = sorted(path.parent.name for path in ROOT.glob("commands/*/command.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does_and_does_nothing(name: str, project: Project):
    if name == "app":
        pytest.importorskip("gradio")
    before = project.digests(".")
    printed = project.command(name, "--help").stdout
    assert printed.startswith(f"usage: python -m commands.{name}")
    described, _ = (import_module(f"commands.{name}.command").__doc__ or "").split("\n", 1)
    assert described in " ".join(printed.split())
    assert project.digests(".") == before


def test_results_are_the_table_that_compare_prints(built_project: Project):
    """Of the built project, in which nothing is left to run."""
    printed = built_project.command("results").stdout
    first, *rows = printed.splitlines()
    assert first.split()[:3] == ["%", "mean", "IoU"]
    assert {row.split()[0] for row in rows} == set(built_project.params["variants"])
    iou = [float(row.split()[1]) for row in rows]
    assert iou == sorted(iou, reverse=True)
    assert printed in built_project.output.read_text().encode().decode("unicode_escape")


def test_results_of_a_variant_whose_training_was_stopped_are_told_to_be_old(project: Project):
    """DVC removes a model before it is trained again."""
    shutil.rmtree(project.folder / "models/fcn16s")
    note = "models/ has no fcn16s, so its results are of an earlier training; `dvc repro` trains it"
    assert note in project.command("results").stdout
    assert note in project.command("report").stdout
    done = project.command("predict", "--out", "out", "dvc.yaml", check=False)
    assert note in done.stdout


def test_results_of_different_splits_are_not_one_table(project: Project):
    project.set_params({"evaluate.split": "validation"})
    project.stage("evaluate", "fcn16s")
    done = project.command("results", check=False)
    assert "was measured on other records or another split than" in done.stderr
    done = project.command("predict", "--out", "out", "dvc.yaml", check=False)
    assert "the variants were measured on different records or splits" in done.stderr


def test_a_package_of_a_command_that_is_not_installed_is_told():
    program = (
        "from stages.shared.runtime import start\n"
        "start.command('sweep', after_stop='', needs='no_such_package')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: no_such_package is not installed; `make sweep` installs it\n"
