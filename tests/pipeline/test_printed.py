"""What a run prints: a line for each stage and each epoch, a bar on a terminal, and no more."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from stages.shared.networks import backend
from tests.conftest import Project, stages_run
from tests.warm import COLD

TIME = r"\d+\.\d s"
SIZE = r"[\d,]+\.\d MB"
SHARE = r"\d+\.\d%"
MEASURES = (
    rf"loss \d+\.\d{{4}}, mean IoU {SHARE}, "
    rf"validation loss \d+\.\d{{4}}, validation mean IoU {SHARE}"
)
# What each stage prints, a pattern for each line, with a single variant.
PRINTED = {
    "check": [rf"check: params\.yaml is valid, 1 variant; {TIME}"],
    "prepare": [
        r"warning: splits of fewer than 10 pictures: their measures say little: train: 6; "
        r"validation: 3; test: 3",
        r"see reports/dataset/index\.html",
        rf"prepare: 6 train, 3 validation, 3 test pictures of 64 x 64, {SIZE}; {TIME}",
    ],
    "backbone@vgg19": [rf"vgg19: vgg19, weights: random, [\d,]+ parameters, {SIZE}; {TIME}"],
    "features@vgg19": [
        rf"vgg19: 256 channels at stride32, "
        rf"of 12 pictures, {SIZE}; {TIME}"
    ],
    "train@fcn32s": [
        rf"fcn32s: epoch 1/2, {MEASURES}",
        rf"fcn32s: epoch 2/2, {MEASURES}",
        rf"fcn32s: 2 epochs; the weights of epoch [0-2] are kept, with a validation mean IoU of "
        rf"{SHARE}; {TIME}",
    ],
    "evaluate@fcn32s": [
        rf"fcn32s: mean IoU {SHARE}, pixel accuracy {SHARE} on 3 pictures \(test split\); {TIME}"
    ],
    "export@fcn32s": [rf"models/export/fcn32s/: saved_model, onnx, litert, {SIZE}; {TIME}"],
    "compare": [
        r"% +mean IoU  ground  disc  ring  bar  tile  M params +GFLOP +MB +seconds +backbone",
        r"fcn32s( +(\d+\.\d|-)){6}( +[\d.]+){3} +\d+\.\d +vgg19",
        rf"reports/comparison/: 1 variant side by side; {TIME}",
    ],
}
# What DVC itself prints.
OF_DVC = re.compile(
    r"> (env PYTHONHASHSEED=0 )?python -m stages\.|(Generating|Updating) lock file 'dvc\.lock'"
    r"|To track the changes with git, run:|\tgit add |To enable auto staging, run:|\tdvc config "
    r"|Use `dvc push` to send your updates to remote storage\."
)


@pytest.fixture
def run(single_variant: Project) -> dict[str, str]:
    """A run of one variant without a terminal: its `stdout` and `stderr`."""
    return json.loads(single_variant.output.read_text())


def by_stage(printed: str) -> dict[str, list[str]]:
    """The lines of each stage of a run, without DVC's own and those that are empty."""
    _, *parts = re.split(r"^Running stage '(.+)':\n", printed, flags=re.MULTILINE)
    return {
        stage: [line for line in lines.splitlines() if line and not OF_DVC.match(line)]
        for stage, lines in zip(parts[::2], parts[1::2], strict=True)
    }


def test_without_a_terminal_each_stage_says_what_how_much_and_how_long(run):
    printed = by_stage(run["stdout"])
    assert list(printed) == list(PRINTED)
    for number, (stage, patterns) in enumerate(PRINTED.items(), start=1):
        # In a first run it is not known how long the others take.
        first, *lines = printed[stage]
        assert first == f"stage {number} of {len(PRINTED)}"
        assert len(lines) == len(patterns), lines
        for line, pattern in zip(lines, patterns, strict=True):
            assert re.fullmatch(pattern, line), line


def test_what_a_stage_says_that_it_took_is_noted_for_the_report(single_variant: Project, run):
    for stage, lines in by_stage(run["stdout"]).items():
        noted = json.loads((single_variant.folder / f"reports/seconds/{stage}.json").read_text())
        assert lines[-1].endswith(f"; {noted['seconds']:.1f} s")


def test_without_a_terminal_there_is_no_bar(run):
    assert run["stderr"] == ""
    assert "%|" not in run["stdout"] and "\r" not in run["stdout"]


def test_a_process_that_has_imported_nothing_before_prints_no_library_s_start_up(
    project: Project, monkeypatch
):
    """Export's: TensorFlow's, as of every stage that runs a network, and two runtimes' more."""
    # Imports of the tests set them too.
    for variable in (*backend.ENVIRONMENT, "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(variable, raising=False)
    done = project.run("python", "-m", "stages.export", "fcn32s", **COLD)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_the_last_stage_ends_with_the_table_of_all_variants_the_best_first(project: Project):
    printed = project.stage("compare").stdout
    *lines, made = printed.splitlines()
    first, *table, empty = [line for line in lines if not line.startswith("note: ")]
    assert (first, empty) == ("", "")
    assert made.startswith("reports/comparison/: 4 variants side by side; ")
    head, *rows = (line.split() for line in table)
    classes = ["ground", "disc", "ring", "bar", "tile"]
    costs = ["M", "params", "GFLOP", "MB", "seconds", "backbone"]
    assert head == ["%", "mean", "IoU", *classes, *costs]
    files = {name: project.folder / f"reports/{name}/metrics.json" for name, *_ in rows}
    assert files.keys() == project.params["variants"].keys()
    measured = {name: json.loads(file.read_text()) for name, file in files.items()}
    for name, mean, *ious, parameters, gflop, stored, seconds, backbone in rows:
        assert backbone == project.params["variants"][name]["backbone"]
        assert float(parameters) == pytest.approx(measured[name]["parameters"] / 1e6, abs=6e-3)
        feature_bytes = measured[name]["feature_bytes"]
        assert (stored == "-") == (project.params["variants"][name]["train"] == "network")
        assert stored == "-" or float(stored) == pytest.approx(feature_bytes / 1e6, abs=6e-4)
        assert float(gflop) == pytest.approx(measured[name]["gflop"], rel=5e-3)
        stages = ["features@vgg19", *(f"train@{v}" for v in line_of(project, name))]
        files = [project.folder / f"reports/seconds/{stage}.json" for stage in stages]
        took = [json.loads(file.read_text())["seconds"] for file in files]
        assert float(seconds) == pytest.approx(sum(took), abs=0.06)
        assert float(mean) == pytest.approx(100 * measured[name]["mean_iou"], abs=0.051)
        assert len(ious) == 5
        for found, iou in zip(ious, measured[name]["iou"].values(), strict=True):
            assert found == "-" if iou is None else abs(float(found) - 100 * iou) < 0.051
    starts = [n for n, *_ in rows if not summary(project, n)["best_epoch"]]
    noted = [line.split()[4] for line in lines if line.startswith("note: no epoch of ")]
    assert sorted(noted) == sorted(starts)
    order = [measured[name]["mean_iou"] for name, *_ in rows]
    assert order == sorted(order, reverse=True)
    whole_run = stages_run(project.run("dvc", "repro", "--force", "--dry").stdout)
    assert whole_run[-1] == "compare"


def line_of(project: Project, variant: str) -> list[str]:
    """A variant, and the variants that it comes from."""
    variants, line = project.params["variants"], []
    while variant in variants:
        line.append(variant)
        variant = variants[variant]["parent"]
    return line


def summary(project: Project, variant: str) -> dict:
    """What training.json says of a variant."""
    return json.loads((project.folder / f"reports/{variant}/training.json").read_text())


def on_a_terminal(project: Project, *command: str) -> str:
    """Run a command on a terminal of 120 columns; what it writes there."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    path = os.pathsep.join((os.environ["WARM_FOLDER"], os.environ["PATH"]))
    environment = os.environ | {"PATH": path}
    with subprocess.Popen(command, cwd=project.folder, env=environment, **streams) as process:
        os.close(terminal)
        written = b""
        # Reading fails once nobody has the terminal open any more.
        try:
            while part := os.read(master, 65536):
                written += part
        except OSError:
            pass
        os.close(master)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize(
    "command, bars, total, unit",
    [
        ("train fcn32s", {"fcn32s: epoch 1/2", "fcn32s: epoch 2/2"}, 6, "batch"),
        ("evaluate fcn32s", {"evaluate fcn32s"}, 3, "picture"),
    ],
)
def test_on_a_terminal_a_bar_counts_in_whole_numbers(
    command: str, bars: set[str], total: int, unit: str, project: Project
):
    name, variant = command.split()
    written = on_a_terminal(project, "python", "-m", f"stages.{name}", variant)
    # One line that is written over, then the stage's own.
    drawn, made, rest = written.split("\r\n")
    assert re.fullmatch(rf"fcn32s: .*; {TIME}", made)
    assert rest == ""
    states = [state.rstrip() for state in drawn.split("\r") if state.strip()]
    shown = [re.match(r"(.+?): +\d+%\|.*\| (\S+)/(\S+) \[.*\b(\w+)(/s|, )", s) for s in states]
    assert all(shown), states
    assert bars <= {match[1] for match in shown} <= bars | {"fcn32s"}
    assert {match[3] for match in shown} == {str(total)}
    assert all(match[2].isdecimal() for match in shown)
    assert f"{total}/{total} [" in states[-1] and f"{unit}" in states[-1]
    assert "\x1b[A" not in written
    assert "epoch 1/2, loss" not in written
