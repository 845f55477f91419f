"""dvc.yaml: a stage's deps are what it imports, and its parameters what it reads."""

import ast
from pathlib import Path

import pytest
import yaml

from stages.check.schema import Params, read_all
from tests.conftest import ROOT

# A folder is the dep, so that a new source is no change of dvc.yaml.
SOURCES = ROOT / "stages/shared/sources"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]


def definition(stage: str) -> dict:
    """A stage's definition, of a `foreach` what is under `do`."""
    return STAGES[stage].get("do", STAGES[stage])


def module_file(name: str) -> Path | None:
    """The file of a module of this project; None for another's."""
    path = ROOT / name.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported_modules(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it, with the packages they are in."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "stages import by full name"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    return {".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}


def import_closure(path: Path) -> set[Path]:
    """The file, and every file of this project that it imports, directly or not.

    The package of sources imports all that lies in its folder, by whatever name.
    """
    closure, new = set(), {path, ROOT / "stages/__init__.py"}
    while new:
        closure |= new
        found = {module_file(name) for file in new for name in imported_modules(file)}
        if SOURCES / "__init__.py" in new:
            found |= set(SOURCES.glob("*.py"))
        new = found - closure - {None}
    return closure


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_name_every_module_that_the_stage_imports_and_no_other(stage: str):
    deps = [ROOT / dep for dep in definition(stage)["deps"] if dep.startswith("stages/")]
    named = {file for dep in deps for file in (dep.glob("*.py") if dep == SOURCES else [dep])}
    assert named == import_closure(ROOT / "stages" / f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name_and_no_parameter_reaches_a_shell(stage: str):
    command = definition(stage)["cmd"].removeprefix("env PYTHONHASHSEED=0 ")
    variant = ' "$DVC_STAGE"' if "foreach" in STAGES[stage] else ""
    assert command == f"python -m stages.{stage}{variant}"


def test_every_parameter_that_changes_a_result_is_some_stage_s():
    declared = {p.split(".")[0] for stage in STAGES for p in definition(stage).get("params", [])}
    assert declared == set(Params.model_fields) - {"engine", "ray"}


def test_only_modules_that_read_or_write_data_or_use_several_gpus_import_tensorflow():
    importers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "stages").rglob("*.py")
        if {"tensorflow", "tensorflow_datasets"} & imported_modules(path)
    }
    assert importers == {
        "stages/shared/devices.py",
        "stages/shared/exports.py",
        "stages/shared/predictions.py",
        "stages/shared/records.py",
        "stages/shared/sources/tfds.py",
    }


def test_metrics_and_plots_live_in_git_and_bulky_outputs_in_the_cache():
    for stage in STAGES:
        shown = [*definition(stage).get("metrics", []), *definition(stage).get("plots", [])]
        for out in shown:
            ((path, options),) = out.items()
            assert path.startswith("reports/")
            assert options["cache"] is False
        for path in definition(stage).get("outs", []):
            assert path.startswith(("data/", "models/", "reports/dataset"))


def test_the_demo_s_exports_are_artifacts_of_the_model_registry():
    exported = read_all(ROOT / "profiles/demo.yaml").export.variants
    paths = {name: artifact["path"] for name, artifact in PIPELINE["artifacts"].items()}
    assert paths == {name: f"models/export/{name}" for name in exported}
