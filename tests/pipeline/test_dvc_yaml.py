"""dvc.yaml: a stage's deps are what it imports, and its parameters what it reads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.check.schema import Params, read_all
from tests.conftest import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
CODE = ROOT / "stages"
# It affects no output byte, so no stage depends on it.
RUNTIME = CODE / "shared/runtime"
# Its modules are found by their names, so that a new source is no change of a list.
SOURCES = CODE / "prepare/sources"
# Files that only mark a package.
MARKERS = set(CODE.rglob("__init__.py")) - {SOURCES / "__init__.py"}
MOST_LINES = {"dvc.yaml": 245, "dvc.lock": 2000}


def definition(stage: str) -> dict:
    """A stage's definition, of a `foreach` what is under `do`."""
    return STAGES[stage].get("do", STAGES[stage])


def modules(folder: Path) -> set[Path]:
    """The modules of a folder and of all below it."""
    return set(folder.rglob("*.py")) - MARKERS


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


def imported_files(path: Path) -> set[Path]:
    """The modules of this project that a file imports."""
    found = {module_file(name) for name in imported_modules(path)} - MARKERS - {None}
    return found | (modules(SOURCES) if SOURCES / "__init__.py" in found else set())


def import_closure(start: set[Path]) -> set[Path]:
    """Some files, and every module of this project that they import, directly or not."""
    closure, new = set(), start
    while new:
        closure |= new
        new = {found for file in new for found in imported_files(file)} - closure
    return closure


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_name_every_module_that_the_stage_imports_and_no_other(stage: str):
    deps = [ROOT / dep for dep in definition(stage)["deps"] if dep.startswith("stages/")]
    closure = import_closure(modules(CODE / stage)) - modules(RUNTIME)
    named = {file for dep in deps for file in (modules(dep) if dep.is_dir() else [dep])}
    assert named == closure
    # One way to write it: the folder where all of it is imported, and single modules elsewhere.
    folders = {path for path in CODE.rglob("*") if path.is_dir() and modules(path)}
    whole = {folder for folder in folders if modules(folder) <= closure}
    outermost = {folder for folder in whole if folder.parent not in whole}
    single = {file for file in closure if file.parent not in whole}
    assert sorted(deps) == sorted(outermost | single)


def test_a_file_that_marks_a_package_holds_nothing_that_a_stage_could_depend_on():
    for path in MARKERS:
        body = ast.parse(path.read_text()).body
        assert not body or (len(body) == 1 and ast.get_docstring(ast.Module(body, []))), path


def test_the_runtime_imports_nothing_else_of_the_project():
    for path in modules(RUNTIME):
        assert imported_files(path) <= modules(RUNTIME), path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_itself_and_what_is_shared_and_check_settings_and_sources(stage: str):
    settings = {path for path in modules(CODE) if path.name == "settings.py"}
    checked = settings | modules(SOURCES)
    own = modules(CODE / stage) | (checked if stage == "check" else set())
    for path in modules(CODE / stage):
        assert imported_files(path) <= own | modules(CODE / "shared"), path


def test_what_is_shared_imports_nothing_of_a_stage():
    for path in modules(CODE / "shared"):
        assert imported_files(path) <= modules(CODE / "shared"), path


def test_a_stage_needs_no_command():
    for path in CODE.rglob("*.py"):
        assert "commands" not in imported_modules(path), path


def test_check_runs_after_a_change_of_the_parameters_or_of_the_packages_versions():
    assert {"params.yaml", "constraints.txt"} <= set(definition("check")["deps"])


@pytest.mark.parametrize("file", MOST_LINES)
def test_a_file_of_dvc_is_short_enough_to_be_read(file: str):
    assert len((ROOT / file).read_text().splitlines()) <= MOST_LINES[file]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name_and_no_parameter_reaches_a_shell(stage: str):
    command = definition(stage)["cmd"].removeprefix("env PYTHONHASHSEED=0 ")
    variant = ' "$DVC_STAGE"' if "foreach" in STAGES[stage] else ""
    assert command == f"python -m stages.{stage}{variant}"


def test_every_parameter_that_changes_a_result_is_some_stage_s():
    declared = {p.split(".")[0] for stage in STAGES for p in definition(stage).get("params", [])}
    assert declared == set(Params.model_fields) - {"engine", "memory", "ray"}


def test_only_modules_that_write_its_formats_read_its_data_sets_or_compute_import_tensorflow():
    importers = {
        str(path.relative_to(ROOT))
        for path in CODE.rglob("*.py")
        if {"tensorflow", "tensorflow_datasets"} & imported_modules(path)
    }
    assert importers == {
        "stages/export/formats.py",
        "stages/prepare/sources/tfds.py",
        "stages/shared/networks/backend.py",
        "stages/shared/networks/compiled.py",
        "stages/shared/runtime/tfdata.py",
        "stages/train/distribution.py",
        "stages/train/feed.py",
    }


def test_importing_stages_or_what_starts_them_changes_nothing_of_the_process():
    folders = (RUNTIME, CODE / "shared/settings")
    files = [path.relative_to(ROOT) for folder in folders for path in sorted(modules(folder))]
    names = ["stages", *(".".join(path.with_suffix("").parts) for path in files)]
    program = (
        "import importlib, os, sys\n"
        "before = dict(os.environ), sys.excepthook\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert (dict(os.environ), sys.excepthook) == before, name\n"
    )
    subprocess.run([sys.executable, "-c", program, *names], cwd=ROOT, check=True)


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
