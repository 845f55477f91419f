"""What each stage has imported when it ends; imports are most of the time of a short stage."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.warm import COLD

# Writes the names of all modules when the process ends.
SITECUSTOMIZE = """
import atexit, os, sys
from pathlib import Path

def write():
    found = [name for name, module in sys.modules.items() if module is not None]
    Path(os.environ["MODULES"]).write_text(" ".join(found))

atexit.register(write)
"""


def imported(project: Project, folder: Path, stage: str) -> set[str]:
    """The modules that a stage has imported, run in a process that had imported nothing."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    name, *variant = stage.split()
    environment = {"PYTHONPATH": str(folder), "MODULES": str(folder / "modules")} | COLD
    project.run("python", "-m", f"stages.{name}", *variant, **environment)
    return set((folder / "modules").read_text().split())


@pytest.mark.parametrize("stage", ["check", "prepare", "compare"])
def test_a_stage_that_runs_no_network_imports_neither_tensorflow_nor_keras(
    stage: str, project: Project, tmp_path: Path
):
    modules = imported(project, tmp_path, stage)
    assert f"stages.{stage}.stage" in modules
    assert not modules & {"keras", "tensorflow", "tensorflow_datasets"}


def test_a_stage_that_runs_a_network_imports_no_plots_and_no_tables(
    project: Project, tmp_path: Path
):
    assert find_spec("pandas"), "it would not be missed"
    modules = imported(project, tmp_path, "train fcn32s")
    assert {"keras", "tensorflow"} <= modules
    assert not modules & {"matplotlib.pyplot", "pandas"}
