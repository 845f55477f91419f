"""`python -m commands.reproduce`, on the tiny project; and what the bytes do not depend on."""

import csv
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from commands.reproduce import command as reproduce
from tests.conftest import CAMPAIGN, Project, copy_of, processes_in, wait_until_runs
from tests.warm import COLD, COLD_DVC


def verdicts(printed: str) -> dict[str, str]:
    """What it says of each stage, in the last comparison."""
    last = printed.rpartition("\nagainst ")[2]
    return dict(re.findall(r"^  (\S+) +(same|differs: .+)$", last, re.MULTILINE))


@pytest.mark.campaign
def test_every_stage_writes_the_same_bytes_again(request: pytest.FixtureRequest, tmp_path: Path):
    built = request.getfixturevalue("built_project" if CAMPAIGN else "single_variant")
    project = copy_of(built, tmp_path / "project")
    # In other processes than those that wrote them first: with another seed of hashes, or new ones.
    other = COLD if CAMPAIGN else {"PYTHONHASHSEED": "0"}
    cache = project.folder / ".dvc/cache"
    before = sorted(cache.rglob("*"))
    done = project.run("python", "-m", "commands.reproduce", **other)
    assert sorted(cache.rglob("*")) == before
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert verdicts(done.stdout) == dict.fromkeys(lock, "same")
    assert "every stage writes the same bytes" in done.stdout
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_an_input_that_the_commit_does_not_have_is_named_before_anything_runs(
    project: Project, monkeypatch
):
    (project.folder / "data/weights/own.weights.h5").write_bytes(b"weights")
    # These are no inputs.
    for path in ("data/evaluation/former/summary.json", "stages/train/.DS_Store"):
        (project.folder / path).parent.mkdir(exist_ok=True)
        (project.folder / path).write_bytes(b"")
    project.run("dvc", "commit", "--force", "backbone@vgg19")
    project.commit()
    done = project.command("reproduce", check=False)
    assert done.returncode == 1
    assert (
        "error: backbone@vgg19 reads data/weights/own.weights.h5, which a clone of" in done.stderr
    )
    assert "Running stage" not in done.stdout
    # The way out.
    project.run("dvc", "add", "data/weights/own.weights.h5")
    project.run("dvc", "commit", "--force", "backbone@vgg19")
    project.commit()
    project.run("git", "clone", "--quiet", ".", "../clone")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    reproduce.share_cache(Path("../clone"))
    reproduce.require_inputs(Path("../clone"))


def test_ctrl_c_leaves_nothing_behind(project: Project, tmp_path: Path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = project.start("python", "-m", "commands.reproduce", TMPDIR=str(temporary), **COLD_DVC)
    wait_until_runs("stages.", process, temporary)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert list(temporary.glob("reproduce-*")) == []
    assert processes_in(temporary) == []


def test_one_core_writes_what_two_do(project: Project):
    before = project.digests("data", "reports")
    command = ("dvc", "repro", "--force", "--single-item", "prepare")
    # Libraries count the cores when they are imported.
    project.run("taskset", "--cpu-list", "0", *command, **COLD)
    assert project.digests("data", "reports") == before


def test_the_order_of_the_pictures_does_not_depend_on_the_shards(project: Project):
    """Sums over the shards are rounded elsewhere, so not all bits are the same; the order is."""
    path = project.folder / "reports/fcn16s/history.csv"
    before = list(csv.reader(path.open()))
    project.set_params({"dataset.shard_size": 5})
    project.run("dvc", "repro", "train@fcn16s")
    again = list(csv.reader(path.open()))
    for row, row_before in zip(again[1:], before[1:], strict=True):
        now, then = ([float(value or "nan") for value in values] for values in (row, row_before))
        assert now == pytest.approx(then, abs=1e-4, nan_ok=True)
