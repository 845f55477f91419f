"""Stages that are killed anywhere, or stopped: what they leave, and what `dvc repro` then makes."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from stages.shared.runtime import outputs
from tests.conftest import CAMPAIGN, FAULTS, ROOT, Project, copy_project
from tests.warm import COLD, COLD_DVC

# How often each stage is to be killed by a campaign; one that goes on may be done before that.
KILLS = {
    "prepare": 4,
    "backbone@vgg19": 2,
    "features@vgg19": 4,
    "train@fcn32s": 2,
    "train@fcn16s": 2,
    "train@fcn8s": 3,
    "train@fcn8s-finetuned": 3,
    "evaluate@fcn32s": 2,
    "evaluate@fcn8s-finetuned": 1,
    "compare": 2,
    "export@fcn32s": 2,
}
# Of the heads and of the evaluations, one each.
SPARED = ("train@fcn16s", "train@fcn8s", "evaluate@fcn8s-finetuned")
if not CAMPAIGN:
    KILLS = {stage: 1 for stage in KILLS if stage not in SPARED}


def outs(project: Project) -> dict[str, str]:
    """Digests of all that the stages write; DVC orders its .gitignore files as it goes."""
    digests = project.digests("data", "models", "reports")
    return {path: digest for path, digest in digests.items() if not path.endswith(".gitignore")}


def lock(project: Project) -> dict:
    """What dvc.lock says."""
    return yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]


def is_progress(project: Project, path: str, whole: Project) -> bool:
    """Whether a file shows how far a training is, by its first epochs or a summary, or a run."""
    if path == "reports/packages.json":
        noted, all_noted = (
            json.loads((p.folder / path).read_text()).items() for p in (project, whole)
        )
        return noted <= all_noted
    if Path(path).name not in ("history.csv", "training.json"):
        return False
    history = Path(path).with_name("history.csv")
    so_far, all_rows = ((p.folder / history).read_text() for p in (project, whole))
    return all_rows.startswith(so_far)


def kills(counts: Path) -> list[tuple[str, int, bool]]:
    """Stage, number of the thing that it does not do any more, and whether dvc dies with it."""
    chosen = random.Random(28)
    plan = []
    for stage, times in KILLS.items():
        things = int((counts / stage).read_text())
        # One in each part of the stage's life.
        for part in range(times):
            number = chosen.randint(things * part // times + 1, things * (part + 1) // times)
            plan.append((stage, number, chosen.random() < 0.3))
    return plan


@pytest.mark.campaign
def test_wherever_it_is_killed_the_outs_are_whole_and_in_the_end_the_same(
    built_project: Project, tmp_path: Path
):
    expected = outs(built_project)
    project = copy_project(tmp_path / "project")
    killed, went_on = [], 0
    for stage, number, group in kills(built_project.counts):
        fault = {"FAULT_AT": f"{stage}:{number}"} | ({"FAULT_GROUP": "1"} if group else {})
        fault |= COLD if CAMPAIGN else {}
        done = project.run("dvc", "repro", stage, check=False, PYTHONPATH=str(FAULTS), **fault)
        went_on += "continuing " in done.stdout
        if done.returncode == 0:
            continue
        killed.append(stage)
        assert "Traceback" not in done.stderr
        found = outs(project)
        changed = {path for path in found.keys() & expected if found[path] != expected[path]}
        damaged = {path for path in changed if not is_progress(project, path, built_project)}
        assert not damaged, f"{stage}, thing {number}"
    project.run("dvc", "repro")
    assert outs(project) == expected
    assert lock(project) == lock(built_project)
    assert len(killed) >= 0.75 * sum(KILLS.values())
    assert set(killed) == set(KILLS)
    assert went_on >= max(1, sum(KILLS.values()) // 9)


@pytest.fixture
def long_training(project: Project) -> Project:
    """The built project, with a variant that would train for hours."""
    project.set_params({"variants.fcn32s.epochs": 1_000_000})
    yield project
    shutil.rmtree(project.folder / "models/.partial", ignore_errors=True)


def start_training(project: Project, *command: str) -> tuple[subprocess.Popen, str]:
    """A command that trains, once it has finished some epochs; what it has said by then."""
    process, said = project.start(*command, **COLD_DVC), ""
    for line in process.stdout:
        said += line
        if re.match(r"fcn32s: epoch \d+/1000000, ", line):
            return process, said
    raise AssertionError(process.stderr.read())


def interrupt(process: subprocess.Popen) -> str:
    """Press Ctrl-C; what the command complained of within 5 seconds."""
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode > 0
    assert "Traceback" not in stderr
    return stderr


def test_ctrl_c_says_where_a_training_stands_and_the_next_run_goes_on_there(
    long_training: Project,
):
    process, _ = start_training(long_training, "python", "-m", "stages.train", "fcn32s")
    said = r"stopped; (\d+) of 1000000 epochs are finished and kept, and `dvc repro` continues"
    kept = re.search(said, interrupt(process))[1]
    process, stdout = start_training(long_training, "dvc", "repro", "train@fcn32s")
    assert re.search(said, interrupt(process))
    assert f"fcn32s: continuing after epoch {kept} of 1000000" in stdout


@pytest.mark.parametrize("place", [[], ["--temp"]], ids=["in the workspace", "in a folder"])
def test_exp_show_tells_how_far_a_training_is_that_runs(place: list[str], long_training: Project):
    command = ["dvc", "exp", "run", *place, "--name", "long", "train@fcn32s"]
    process, _ = start_training(long_training, *command)
    try:
        _, last_commit = json.loads(long_training.run("dvc", "exp", "show", "--json").stdout)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    (experiment,) = last_commit["experiments"]
    assert experiment["executor"]["state"] == "running"
    metrics = experiment["revs"][0]["data"]["metrics"]
    summary = metrics["reports/fcn32s/training.json"]["data"]
    assert 1 <= summary["epoch"] < 1_000_000
    assert 0 <= summary["val_mean_iou"] <= summary["best_val_mean_iou"] <= 1


def test_another_parameter_drops_what_an_interrupted_training_has_kept(long_training: Project):
    process, _ = start_training(long_training, "python", "-m", "stages.train", "fcn32s")
    interrupt(process)
    long_training.set_params({"variants.fcn32s.epochs": 2, "variants.fcn32s.dropout": 0.1})
    done = long_training.stage("train", "fcn32s")
    assert "continuing " not in done.stdout
    assert not (long_training.folder / "models/.partial").exists()


def test_two_runs_at_once_never_write_the_same_output(long_training: Project):
    first, _ = start_training(long_training, "dvc", "repro", "train@fcn32s")
    second = long_training.run("dvc", "repro", "train@fcn32s", check=False)
    assert second.returncode > 0
    assert re.search(r"is busy, it is being blocked by:|Unable to acquire lock", second.stderr)
    by_hand = long_training.stage("train", "fcn32s", check=False)
    assert by_hand.returncode == 1
    assert "another process is writing models/fcn32s; wait until it ends" in by_hand.stderr
    interrupt(first)


def stopped_when_busy(program: str) -> subprocess.Popen:
    """A program that prints `busy`, and has Ctrl-C pressed then."""
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    return process


BUSY = """
import ctypes
from stages.shared.runtime import start, stopping

with start.in_plain_words(stopping.standing):
    stopping.stands("2 finished shards are kept")
    mutex = ctypes.create_string_buffer(64)
    library = ctypes.{library}(None)
    library.pthread_mutex_lock(mutex)
    print("busy", flush=True)
    library.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_ctrl_c_ends_a_stage_that_is_deep_in_a_library(library: str):
    """A signal does not end the wait; with PyDLL all threads of Python wait along."""
    process = stopped_when_busy(BUSY.format(library=library))
    _, stderr = process.communicate(timeout=5)
    assert process.returncode != 0
    assert "stopped; 2 finished shards are kept, and `dvc repro` continues from there" in stderr


DROPPING = """
import os, signal
from stages.shared.runtime import start, stopping

with start.in_plain_words(stopping.standing):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        print("dropped", flush=True)
    stopping.stands("2 finished shards are kept")
    print("went on")
"""


def test_ctrl_c_that_a_library_drops_ends_a_stage_where_it_next_keeps_something():
    done = subprocess.run(
        [sys.executable, "-c", DROPPING], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "dropped\n"), done.stderr
    told = "stopped; 2 finished shards are kept, and `dvc repro` continues from there"
    assert done.stderr == f"\n{told}\n"


COLLECTING = """
import gc, time
from stages.shared.runtime import start, stopping

def collecting(phase, info):
    gc.callbacks.remove(collecting)
    print("busy", flush=True)
    time.sleep(60)

class Deleted:
    def __del__(self):
        print("busy", flush=True)
        time.sleep(60)

def by_collection():
    gc.callbacks.append(collecting)
    gc.collect()

def by_deletion():
    Deleted()

with start.in_plain_words(stopping.standing):
    {where}()
    time.sleep(60)
"""


@pytest.mark.parametrize("where", ["by_collection", "by_deletion"])
def test_ctrl_c_that_python_can_only_drop_comes_again(where: str):
    process = stopped_when_busy(COLLECTING.format(where=where))
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 1
    assert stderr == "\nstopped; `dvc repro` starts this stage again\n"


MAKING = """
import signal
from stages.shared.networks import backend
from stages.shared.runtime import start, stopping

backend.configure()
import tensorflow as tf

# What a shell starts in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# From here on it is initialized.
tf.constant(0.5)
with start.in_plain_words(stopping.standing):
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGINT))
    for stop in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while True:
                tf.constant(1.5)
        except KeyboardInterrupt:
            pass
    print(stop)
"""


def test_ctrl_c_while_tensorflow_makes_a_tensor_is_no_segmentation_fault():
    """Pressed 100 times; without what `stopping.FRAGILE` says, one of the first four was one."""
    done = subprocess.run([sys.executable, "-c", MAKING], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "99\n"), done.stderr


HANGING = """
import atexit, ctypes, time
from stages.shared.runtime import start, stopping

mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
library.pthread_mutex_lock(mutex)
atexit.register(library.pthread_mutex_lock, mutex)
stopping.END_SECONDS = 0.2
with start.in_plain_words(stopping.standing):
    print("busy", flush=True)
    time.sleep(60)
"""


def test_what_waits_for_itself_as_it_ends_after_ctrl_c_is_ended():
    process = stopped_when_busy(HANGING)
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "stopped; `dvc repro` starts this stage again" in stderr


CLEANING = """
import time
from stages.shared.runtime import start, stopping

stopping.GRACE_SECONDS = 0.2
with start.in_plain_words(stopping.standing):
    try:
        print("busy", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.6)
        print("cleaned up", flush=True)
"""


def test_what_is_stopped_may_clean_up_for_longer_than_it_takes_to_stop():
    process = stopped_when_busy(CLEANING)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "cleaned up\n"), stderr
    assert stderr == "\nstopped; `dvc repro` starts this stage again\n"


def test_what_was_kept_is_dropped_when_code_or_data_changed(tmp_path: Path, monkeypatch):
    code = tmp_path / "code.py"
    code.write_text("before")
    module = ModuleType("stages.made_up")
    module.__file__ = str(code)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = outputs.origin("data", 1)
    assert outputs.origin("data", 1) == before
    assert outputs.origin("other data", 1) != before
    code.write_text("after")
    assert outputs.origin("data", 1) != before
