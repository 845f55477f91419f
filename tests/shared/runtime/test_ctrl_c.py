"""Ctrl-C while a stage starts: one sentence, whatever it imports at that moment."""

import pytest

from tests.conftest import Project
from tests.warm import COLD

# Presses Ctrl-C when a module is imported.
SITECUSTOMIZE = """
import os, signal, sys

class Press:
    def find_spec(self, name, path, target=None):
        if name == os.environ["PRESSED_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

# What a shell starts in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Press())
"""


@pytest.mark.parametrize(
    "stage, module",
    [
        ("check", "stages.check.stage"),
        ("prepare", "stages.prepare.sources.folder"),
        ("compare", "matplotlib.figure"),
        ("train fcn32s", "keras"),
        ("train fcn32s", "tensorflow.python.framework.ops"),
        ("train fcn32s", "stages.train.stage"),
        ("train fcn32s", "stages.train.losses"),
    ],
)
def test_ctrl_c_while_a_stage_imports_is_told_in_a_sentence(
    stage: str, module: str, project: Project, tmp_path
):
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    name, *variant = stage.split()
    environment = {"PYTHONPATH": str(tmp_path), "PRESSED_AT": module} | COLD
    command = ("python", "-m", f"stages.{name}", *variant)
    done = project.run(*command, check=False, **environment)
    assert done.returncode == 1
    assert done.stderr == "\nstopped; `dvc repro` starts this stage again\n"
    assert done.stdout == ""


AT_EXIT = """
import atexit, os, signal

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_as_a_finished_stage_ends_changes_nothing(project: Project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(AT_EXIT)
    done = project.run("python", "-m", "stages.check", PYTHONPATH=str(tmp_path), **COLD)
    assert done.stderr == ""
    assert " s\n" in done.stdout
