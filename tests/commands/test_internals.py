"""What is used of DVC beyond its command line, each with what no longer works without it."""

from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from commands import internals
from stages.shared.runtime.errors import UserError
from tests.conftest import ROOT, Project
from tests.pipeline.test_dvc_yaml import imported_modules


def test_one_module_imports_dvc():
    importers = [
        path.relative_to(ROOT)
        for folder in ("commands", "stages", "benchmarks", "docs")
        for path in (ROOT / folder).rglob("*.py")
        if any(name.split(".")[0] in ("dvc", "dvc_render") for name in imported_modules(path))
    ]
    assert importers == [Path("commands/internals.py")]


def test_make_share_sends_what_git_tracks_if_a_run_left_it_in_the_cache(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(project.folder)
    project.run("dvc", "remote", "add", "--default", "there", str(tmp_path / "remote"))
    project.run("dvc", "push")
    with Repo() as repo:
        tracked = {str(out) for out in repo.index.outs if not out.use_cache}
    assert "reports/fcn8s/metrics.json" in tracked
    there = tmp_path / "remote/files/md5"
    files = [there / md5[:2] / md5[2:] for md5 in project.digests(*tracked).values()]
    assert not any(file.exists() for file in files)
    assert internals.push_outs_of_git() >= len(set(files))
    assert all(file.exists() for file in files)
    assert internals.push_outs_of_git() == 0


def test_a_remote_that_does_not_take_them_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(project.folder)
    (tmp_path / "remote").write_text("no folder")
    project.run("dvc", "remote", "add", "--default", "there", str(tmp_path / "remote"))
    with pytest.raises(UserError, match="the outs that Git tracks can't be pushed: "):
        internals.push_outs_of_git()


def test_make_report_fills_the_templates_of_dvc_plots(in_project: Project):
    rows = [{"epoch": 1, "val_mean_iou": 0.5}, {"epoch": 2, "val_mean_iou": 0.75}]
    spec = internals.filled_template("training", rows, "epoch", "val_mean_iou", "a title")
    assert [row["val_mean_iou"] for row in spec["data"]["values"]] == [0.5, 0.75]
    assert "a title" in str(spec)
    assert "<DVC_METRIC" not in str(spec)


def test_make_sweep_finds_the_commit_of_an_experiment(project: Project):
    name = "made-by-dvc"
    project.run("dvc", "exp", "run", "--name", name, "-S", "compare.pictures=1", "compare")
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    reference = internals.experiment_reference(head, name)
    params = yaml.safe_load(project.run("git", "show", f"{reference}:params.yaml").stdout)
    assert params["compare"]["pictures"] == 1
