"""`dvc exp` on the tiny project: what runs, what is shared, what DVC reads of the data."""

import json
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import Project, clone, processes_in, stages_run, wait_until

TARGET = "evaluate@fcn8s"
RAN = ["check", "train@fcn8s", "evaluate@fcn8s"]
RATE = 0.003
# fcn8s has no rate of its own, so it is added.
SET_RATE = f"++variants.fcn8s.learning_rate={RATE}"
GRID = [0.002, 0.004]
VARIANTS = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-finetuned"]
# What a change of training leaves as it is.
UNCHANGED = ("data/records/", "data/features/", "models/vgg19/")

# Python imports this first, if its folder is in PYTHONPATH: DVC's own processes note there what
# they open to read, as it lies in the project, in an experiment's folder or in the cache.
NOTES = """
import os, sys
if sys.argv[0:1] and any(a.endswith("/dvc") for a in sys.orig_argv[:2]):
    notes = os.open({notes!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and arguments[1] in ("r", "rb"):
            os.write(notes, (os.path.abspath(arguments[0]) + "\\n").encode())
    sys.addaudithook(hook)
"""


@pytest.fixture(scope="module")
def project(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of the built project, whose experiments these tests share."""
    return clone(built_project, tmp_path_factory.mktemp("experiments") / "project")


def reset(project: Project) -> None:
    """Make the workspace that of the last commit again."""
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "checkout", "--quiet", "--force")


@pytest.fixture(autouse=True)
def as_committed(project: Project) -> None:
    """Each test begins at the last commit."""
    reset(project)


@pytest.fixture(scope="module")
def slow(project: Project) -> Project:
    """The project with an experiment `slow`, run in the workspace."""
    reset(project)
    done = project.run("dvc", "exp", "run", "--name", "slow", "--set-param", SET_RATE, TARGET)
    assert stages_run(done.stdout) == RAN
    return project


def inodes(project: Project) -> dict[str, int]:
    """Of the files that a change of training leaves as they are."""
    files = [path for name in UNCHANGED for path in (project.folder / name).rglob("*")]
    return {str(path): path.stat().st_ino for path in files}


def shown(project: Project) -> dict[str, dict]:
    """What `dvc exp show` has of the experiments, by name."""
    commits = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    experiments = [e for commit in commits for e in commit["experiments"] or ()]
    return {e["name"]: e["revs"][0]["data"] for e in experiments}


def watched(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which DVC notes what it reads, and where it notes it."""
    notes = folder / "notes"
    (folder / "sitecustomize.py").write_text(NOTES.format(notes=str(notes)))
    return {"PYTHONPATH": str(folder)}, notes


def bytes_that_must_not_be_read(project: Project) -> list[Path]:
    """The files that do not change, and the cache's objects that they are links to."""
    unchanged = set(inodes(project).values())
    cache = (project.folder / ".dvc/cache/files/md5").glob("*/*")
    objects = [path for path in cache if path.stat().st_ino in unchanged]
    assert len(objects) > 10
    return [*objects, *(Path(path) for path in inodes(project))]


def test_a_rate_for_all_trains_and_measures_all_and_reuses_the_rest(project: Project):
    before = inodes(project)
    rate = ("-S", "train.learning_rate=3e-4")
    done = project.run("dvc", "exp", "run", *rate, "-n", "lr3e-4", "compare")
    trained = [f"{stage}@{name}" for stage in ("train", "evaluate") for name in VARIANTS]
    assert sorted(stages_run(done.stdout)) == sorted(["check", *trained, "compare"])
    assert project.params["train"]["learning_rate"] == 3e-4
    assert inodes(project) == before
    assert "lr3e-4" in shown(project)


def test_another_size_of_the_pictures_is_a_row_of_the_same_table(project: Project):
    """With what the variant costs at that size."""
    project.run("dvc", "exp", "run", "-n", "large", "-S", "dataset.image_size=96", TARGET)
    path = "reports/fcn8s/metrics.json"
    large = shown(project)["large"]["metrics"][path]["data"]
    small = json.loads(project.run("git", "show", f"HEAD:{path}").stdout)
    assert 0 <= large["mean_iou"] <= 1
    assert large["parameters"] == small["parameters"]
    committed = yaml.safe_load(project.run("git", "show", "HEAD:params.yaml").stdout)
    times = (96 / committed["dataset"]["image_size"]) ** 2
    assert large["gflop"] == pytest.approx(times * small["gflop"], rel=0.01)
    # Each channel's least activation and step are stored beside, at any size.
    assert small["feature_bytes"] < large["feature_bytes"] < times * small["feature_bytes"]


def test_show_has_the_metrics_that_a_plain_repro_gets(
    slow: Project, built_project: Project, tmp_path: Path
):
    plain = clone(built_project, tmp_path / "plain")
    plain.set_params({"variants.fcn8s.learning_rate": RATE})
    assert stages_run(plain.run("dvc", "repro", TARGET).stdout) == RAN
    data = shown(slow)["slow"]
    for name in ("metrics.json", "training.json"):
        expected = json.loads((plain.folder / "reports/fcn8s" / name).read_text())
        assert data["metrics"][f"reports/fcn8s/{name}"]["data"] == expected
    assert data["params"]["params.yaml"]["data"]["variants"]["fcn8s"]["learning_rate"] == RATE


def test_diff_shows_what_was_changed_and_what_came_of_it(slow: Project):
    found = json.loads(slow.run("dvc", "exp", "diff", "HEAD", "slow", "--json").stdout)
    assert found["params"]["params.yaml"] == {
        "variants.fcn8s.learning_rate": {"old": None, "new": RATE}
    }
    changed = found["metrics"]["reports/fcn8s/training.json"]["val_loss"]
    assert changed["new"] != changed["old"]
    assert not any("fcn16s" in path for path in found["metrics"])


def test_apply_brings_back_parameters_and_outs_and_then_repro_runs_nothing(slow: Project):
    committed = slow.digests("models/fcn8s", "reports/fcn8s")
    slow.run("dvc", "exp", "apply", "slow")
    assert slow.params["variants"]["fcn8s"]["learning_rate"] == RATE
    applied = slow.digests("models/fcn8s", "reports/fcn8s")
    assert applied.keys() == committed.keys() and applied != committed
    assert stages_run(slow.run("dvc", "repro", TARGET).stdout) == []
    assert slow.digests("models/fcn8s", "reports/fcn8s") == applied


@pytest.mark.parametrize("where", ["workspace", "temp"])
def test_dvc_reads_nothing_again_of_what_did_not_change(
    where: str, project: Project, tmp_path: Path
):
    """Links keep their inode and time of change, by which DVC knows them: no file is hashed."""
    before = inodes(project)
    forbidden = {str(path) for path in bytes_that_must_not_be_read(project)}
    environment, notes = watched(tmp_path)
    rate = {"workspace": 0.005, "temp": 0.006}[where]
    command = ["dvc", "exp", "run", "--name", where]
    command += ["--temp"] if where == "temp" else []
    done = project.run(
        *command, "-S", f"++variants.fcn8s.learning_rate={rate}", TARGET, **environment
    )
    assert stages_run(done.stdout) == RAN
    read = set(notes.read_text().splitlines())
    # What did change it has read.
    assert any(path.endswith("/models/fcn8s/head.weights.h5") for path in read)
    assert not read & forbidden
    # In an experiment's folder the names are others.
    assert not [p for p in read if "/.dvc/tmp/exps/" in p and any(f"/{u}" in p for u in UNCHANGED)]
    assert inodes(project) == before


def test_a_run_in_a_folder_of_its_own_leaves_the_workspace_alone_and_copies_nothing(
    project: Project,
):
    before = project.digests("params.yaml", "dvc.lock", "data", "models", "reports")
    features = project.folder / "data/features/vgg19/head/train-00000.stride32.npy"
    process = project.start(
        "dvc", "exp", "run", "--temp", "-S", "++variants.fcn8s.learning_rate=0.007", "train@fcn8s"
    )
    # While a temporary folder is there, each file has a link more.
    links, seen = features.stat().st_nlink, 0
    while process.poll() is None:
        seen = max(seen, features.stat().st_nlink)
        time.sleep(0.02)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stages_run(stdout) == RAN[:2]
    assert seen == links + 1
    assert features.stat().st_nlink == links
    assert project.digests("params.yaml", "dvc.lock", "data", "models", "reports") == before


def test_a_queued_grid_runs_to_its_end(project: Project):
    grid = ",".join(map(str, GRID))
    project.run(
        "dvc",
        "exp",
        "run",
        "--queue",
        "-S",
        f"++variants.fcn8s.learning_rate={grid}",
        "train@fcn8s",
    )
    assert states(project) == dict.fromkeys(states(project), "Queued")
    assert len(states(project)) == len(GRID)
    before = inodes(project)
    project.run("dvc", "queue", "start")
    wait_until(lambda: not {"Queued", "Running"} & set(states(project).values()))
    names = states(project)
    assert set(names.values()) == {"Success"}
    for name in names:
        assert stages_run(project.run("dvc", "queue", "logs", name).stdout) == RAN[:2]
    data = shown(project)
    rates = [data[n]["params"]["params.yaml"]["data"]["variants"]["fcn8s"] for n in names]
    assert sorted(rate["learning_rate"] for rate in rates) == GRID
    assert inodes(project) == before
    wait_until(lambda: processes_in(project.folder) == [])


def states(project: Project) -> dict[str, str]:
    """What `dvc queue status` says of each experiment, by name."""
    lines = project.run("dvc", "queue", "status").stdout.splitlines()
    rows = [line.split() for line in lines[1:] if line and not line.startswith("Worker")]
    return {row[1]: row[-1] for row in rows}
