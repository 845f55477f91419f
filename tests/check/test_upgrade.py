"""`check` after an upgrade of a package: which stages it names, and when it keeps quiet."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from stages.shared.runtime import packages
from stages.shared.runtime.packages import PACKAGES_FILE
from tests.conftest import Project

OLD = "2.0.0"


def noted(project: Project) -> dict[str, dict[str, str]]:
    """The versions that each stage ran under."""
    return json.loads((project.folder / PACKAGES_FILE).read_text())


def note(project: Project, changes: dict[str, dict[str, str]]) -> None:
    """Have some stages, and the last check, run under other versions."""
    stages = noted(project)
    changes = {"check": {"tensorflow": OLD}} | changes
    changed = {stage: stages.get(stage, {}) | versions for stage, versions in changes.items()}
    (project.folder / PACKAGES_FILE).write_text(json.dumps(stages | changed))


def notes(project: Project) -> list[str]:
    """What `check` prints beside its own line, which is the last."""
    *lines, last = project.stage("check").stdout.splitlines()
    assert last.startswith("check: params.yaml is valid")
    return lines


def test_every_stage_notes_the_versions_that_it_ran_under(built_project: Project):
    installed = {n: version(n) for n in ("keras", "numpy", "pillow", "pycocotools", "tensorflow")}
    stages = ["check", "prepare", "backbone@vgg19", "features@vgg19", "compare", "export@fcn32s"]
    stages += [f"{s}@{v}" for s in ("train", "evaluate") for v in built_project.params["variants"]]
    assert noted(built_project) == dict.fromkeys(stages, installed)


def test_without_an_upgrade_it_says_nothing(project: Project):
    assert notes(project) == []


def test_after_an_upgrade_one_line_names_the_stage_both_versions_and_the_choices(project: Project):
    note(project, {"train@fcn8s": {"tensorflow": OLD}})
    (line,) = notes(project)
    assert "train@fcn8s ran with " in line
    assert f"tensorflow {OLD} ({version('tensorflow')} is used)" in line
    for command in ("`dvc repro --force`", "`dvc commit`"):
        assert command in line
    for other in ("train@fcn16s", "train@fcn8s-", "evaluate", "prepare", "keras", "numpy"):
        assert other not in line


def test_several_stages_and_packages_share_the_line(project: Project):
    note(project, {"prepare": {"pillow": "1.0", "numpy": "1.1"}, "compare": {"numpy": "1.1"}})
    (line,) = notes(project)
    assert "prepare" in line and "compare" in line
    assert line.count("numpy 1.1 ") == line.count("pillow 1.0 ") == 1


@pytest.mark.parametrize("built", [True, False])
def test_a_stage_that_dvc_lock_does_not_have_is_not_named(built: bool, project: Project):
    note(project, {"train@former": {"tensorflow": OLD, "keras": "3", "numpy": "2", "pillow": "1"}})
    if not built:
        note(project, {"train@fcn8s": {"tensorflow": OLD}})
        (project.folder / "dvc.lock").unlink()
    assert notes(project) == []


def test_it_is_said_once(project: Project):
    note(project, {"train@fcn8s": {"tensorflow": OLD}})
    assert len(notes(project)) == 1
    assert notes(project) == []
    assert noted(project)["train@fcn8s"]["tensorflow"] == OLD


def test_a_run_under_the_new_version_ends_it(project: Project):
    note(project, {"compare": {"tensorflow": OLD}})
    project.stage("compare")
    assert notes(project) == []


def test_a_note_with_the_marks_of_a_conflict_is_written_anew(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packages.note("prepare")
    before = packages.noted()
    PACKAGES_FILE.write_text("<<<<<<< HEAD\n" + PACKAGES_FILE.read_text())
    assert packages.noted() == {}
    packages.note("prepare")
    assert packages.noted() == before
