"""A remote between two clones: a folder, and an S3 server on this machine."""

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from stages.shared.networks import heads
from tests.conftest import FAULTS, Project, clone, stages_run
from tests.shared.networks.made_up import head_config

BUCKET = "shared"
KEY, SECRET = "AKIDOFATEST", "a-secret-that-git-must-not-see"
# After this change alone the head is trained and measured anew.
CHANGE, TARGET = {"variants.fcn8s.dropout": 0.25}, "evaluate@fcn8s"
CHANGED = ["train@fcn8s", "evaluate@fcn8s"]
PUBLISHED_CHANNELS = {"stride32": 4096, "stride16": 512, "stride8": 256}
PASCAL_CLASSES = 21

needs_s3 = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("moto", "dvc_s3")),
    reason="moto or dvc-s3 is not installed",
)
on_each_remote = pytest.mark.parametrize(
    "remote", ["folder", pytest.param("s3", marks=needs_s3)], indirect=True
)


class Remote(NamedTuple):
    """A place to push to: its address, and what `dvc remote modify` is to be told of it."""

    url: str
    settings: dict[str, str]
    keys: dict[str, str]

    def add_to(self, project: Project) -> None:
        """Name it to DVC, in the file that Git keeps; the keys not."""
        project.run("dvc", "remote", "add", "--default", "shared", self.url)
        for name, value in self.settings.items():
            project.run("dvc", "remote", "modify", "shared", name, value)
        project.commit()
        self.unlock(project)

    def unlock(self, project: Project) -> None:
        """Give DVC the keys."""
        for name, value in self.keys.items():
            project.run("dvc", "remote", "modify", "--local", "shared", name, value)


@pytest.fixture(scope="module")
def s3(s3_address: str) -> str:
    """Address of a running S3 server with a bucket."""
    import boto3

    session = boto3.Session(KEY, SECRET, region_name="us-east-1")
    session.client("s3", endpoint_url=s3_address).create_bucket(Bucket=BUCKET)
    return s3_address


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Remote:
    """An empty remote of each kind."""
    # What this machine's user may know of S3 is not for these tests.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "empty").touch()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "empty"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "empty"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if request.param == "folder":
        (tmp_path / "remote").mkdir()
        return Remote(str(tmp_path / "remote"), settings={}, keys={})
    return Remote(
        f"s3://{BUCKET}/{tmp_path.name}",
        {"endpointurl": request.getfixturevalue("s3")},
        {"access_key_id": KEY, "secret_access_key": SECRET},
    )


@pytest.fixture
def yours(built_project: Project, tmp_path: Path) -> Project:
    return clone(built_project, tmp_path / "yours")


def in_remote(folder: Path) -> set[str]:
    """The files of a remote that is a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def objects(project: Project, stages: list[str]) -> set[str]:
    """Where a remote has the outs of some stages, from dvc.lock and the outs' own bytes."""
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    outs = [out for stage in stages for out in lock[stage]["outs"]]
    digests = {out["md5"] for out in outs}
    digests |= set(project.digests(*(out["path"] for out in outs)).values())
    return {f"files/md5/{digest[:2]}/{digest[2:]}" for digest in digests}


@on_each_remote
def test_what_one_clone_pushes_another_pulls_and_then_repro_runs_nothing(
    remote: Remote, yours: Project, tmp_path: Path
):
    remote.add_to(yours)
    yours.run("dvc", "push")
    theirs = clone(yours, tmp_path / "theirs", cache=False)
    remote.unlock(theirs)
    theirs.run("dvc", "pull")
    assert theirs.repro() == []
    assert theirs.digests("data", "models", "reports") == yours.digests("data", "models", "reports")
    assert theirs.run("git", "status", "--porcelain").stdout == ""


@on_each_remote
def test_with_your_parameters_a_colleague_takes_your_results(
    remote: Remote, yours: Project, tmp_path: Path
):
    """Neither params.yaml nor dvc.lock went through Git, and nothing else was pulled before."""
    remote.add_to(yours)
    yours.set_params(CHANGE)
    ran = stages_run(yours.run("dvc", "repro", TARGET).stdout)
    assert ran == ["check", *CHANGED]
    yours.run("python", "-m", "commands.share")

    theirs = clone(yours, tmp_path / "theirs", cache=False)
    remote.unlock(theirs)
    theirs.set_params(CHANGE)
    started = tmp_path / "started"
    started.mkdir()
    # Every stage that runs leaves a file there.
    watched = {"PYTHONPATH": str(FAULTS), "FAULT_COUNTS": str(started)}
    done = theirs.run("dvc", "repro", "--pull", TARGET, **watched)
    for stage in ran:
        assert f"Stage '{stage}' is cached - skipping run" in done.stdout
    assert stages_run(done.stdout) == list(started.iterdir()) == []
    results = ("dvc.lock", "models/fcn8s", "reports/fcn8s", "data/evaluation/fcn8s")
    assert theirs.digests(*results) == yours.digests(*results)


@pytest.mark.parametrize("remote", [pytest.param("s3", marks=needs_s3)], indirect=True)
def test_the_keys_are_needed_and_git_never_sees_them(
    remote: Remote, yours: Project, tmp_path: Path
):
    remote.add_to(yours)
    yours.run("dvc", "push", "models/vgg19")
    assert SECRET in (yours.folder / ".dvc/config.local").read_text()
    assert yours.run("git", "status", "--porcelain").stdout == ""
    git = ("git", "cat-file", "--batch", "--batch-all-objects")
    known = subprocess.run(git, cwd=yours.folder, capture_output=True, check=True).stdout
    assert BUCKET.encode() in known
    assert KEY.encode() not in known and SECRET.encode() not in known

    theirs = clone(yours, tmp_path / "theirs", cache=False)
    refused = theirs.run("dvc", "pull", "models/vgg19", check=False)
    assert refused.returncode > 0
    assert "credentials" in refused.stderr
    remote.unlock(theirs)
    theirs.run("dvc", "pull", "models/vgg19")
    assert theirs.digests("models/vgg19") == yours.digests("models/vgg19")


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_after_a_change_of_one_head_that_head_and_its_measures_are_all_that_is_pushed(
    remote: Remote, yours: Project
):
    folder = Path(remote.url)
    remote.add_to(yours)
    yours.run("python", "-m", "commands.share")
    before = in_remote(folder)
    yours.set_params(CHANGE)
    yours.run("dvc", "repro", TARGET)
    yours.run("python", "-m", "commands.share")
    pushed = {name for name in in_remote(folder) - before if not name.startswith("runs/")}
    assert pushed == objects(yours, CHANGED) - before
    assert len(pushed) > len(CHANGED)


def test_a_head_of_the_published_width_takes_less_than_two_megabytes(tmp_path: Path):
    classes = [f"class {number}" for number in range(PASCAL_CLASSES)]
    config = head_config(PUBLISHED_CHANNELS, 8, classes)
    heads.save(heads.build(config), config, tmp_path)
    stored = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert sum(PUBLISHED_CHANNELS.values()) * PASCAL_CLASSES * 4 < stored < 2e6


def test_without_a_remote_it_says_so(yours: Project):
    done = yours.command("share", check=False)
    assert done.returncode == 1
    assert "no remote" in done.stderr
    assert done.stderr.endswith("error: `dvc push --run-cache` failed; see above\n")
    assert "Traceback" not in done.stderr
