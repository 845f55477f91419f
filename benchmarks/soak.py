"""`make soak`: a long run under load, which shows whether anything grows.

    python -m benchmarks.soak    # writes soak.json and soak.md

Runs prepare, features, every training and predict in a scratch folder, as dvc.yaml and a user start
them, on pictures that the demo's generator draws. While a process works, its progress bars are
read, and its resident set, open file descriptors and processor time are sampled. What grows shows
as a difference between an early tenth of its work and the last.
"""

import argparse
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from benchmarks.report import MIB, table
from benchmarks.workspace import ROOT, RSS_UNIT_BYTES, Cost, Workspace, device
from stages.prepare.sources import demo

VARIANTS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-finetuned")
IMAGE_SIZE = 64
WIDTH = 0.0625
# Of the pictures, in each of the splits validation and test.
HELD_OUT_SHARE = 0.1
# The sides of the files for predict, in pixels, and the quality of their JPEG.
FILE_SIDES = (64, 96)
QUALITY = 90
SAMPLE_SECONDS = 0.2
CHUNK_BYTES = 1 << 16
# Of what a stage that failed has said.
MESSAGE_BYTES = 3000
# Shares of the work. Memory is compared from the second tenth on: in the first, buffers still fill.
FIRST, EARLY, LAST = (0.0, 0.1), (0.1, 0.2), (0.9, 1.0)
# A progress bar as tqdm prints it: `fcn8s: epoch 1/1:  98%|#| 1230/1250 [00:06<00:00, 9.1batch/s]`.
BAR = re.compile(
    r"(?P<name>[^\r\n\x1b]+?): +(?:\d+%\|[^|]*\| *)?(?P<count>\d+)(?:/\d+)?"
    r"(?:picture|batch)? \[[^\]]*?(?P<unit>picture|batch)\b[^\]]*\]"
)
# Rows and columns of the terminal on which the bars are drawn.
TERMINAL = (24, 250)
RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
# utime and stime in /proc/PID/stat, counted from what follows the name (proc(5)).
PROCESSOR_FIELDS = slice(11, 13)


class Point(NamedTuple):
    """How many pictures were done when, in seconds since the process was started."""

    seconds: float
    pictures: float


class Sample(NamedTuple):
    """A process at a time.

    Attributes:
        seconds: since it was started.
        resident: bytes of its resident set.
        descriptors: that it has open.
        processor: seconds that it has had of all cores, together.
    """

    seconds: float
    resident: int
    descriptors: int
    processor: float


class Watched(NamedTuple):
    """A process that has ended.

    Attributes:
        cost: all of it.
        points: of its progress; the first has a picture or more.
        samples: from its start to its end.
    """

    cost: Cost
    points: list[Point]
    samples: list[Sample]


class Bars:
    """Progress bars, read as they are printed; bars that follow one another add up.

    Args:
        batch_size: pictures that a count of batches stands for.

    Attributes:
        points: each time that more was done; those at 0 tell nothing.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.points: list[Point] = []
        self._done: dict[str, float] = {}
        self._unread = ""

    def read(self, seconds: float, printed: str) -> None:
        """Take in what was printed at a time; a bar may come in pieces."""
        self._unread += printed
        end = 0
        for bar in BAR.finditer(self._unread):
            pictures = self.batch_size if bar["unit"] == "batch" else 1
            self._done[bar["name"]] = pictures * int(bar["count"])
            end = bar.end()
        self._unread = self._unread[end:]
        done = sum(self._done.values())
        if done > (self.points[-1].pictures if self.points else 0):
            self.points.append(Point(seconds, done))


def main() -> None:
    """Read the command line, run it all and write down what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000, help="of all three splits")
    parser.add_argument("--files", type=int, default=10_000, help="for predict")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--shard-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--scratch", type=Path, help="where the scratch folder goes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    try:
        for given in filter(None, (options.scratch, options.out)):
            given.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            results = soak(options, Path(folder) / "soak")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} ended with {error.returncode}")
    (options.out / "soak.json").write_text(json.dumps(results, indent=2) + "\n")
    page = markdown(results)
    (options.out / "soak.md").write_text(page)
    print(page)


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all stages in a folder of their own."""
    workspace = Workspace(folder, params(options))
    workspace.stage("check")
    draw_files(folder / "pictures", options.files)
    found = [measured("prepare", workspace, options)]
    workspace.stage("backbone", "vgg19")
    found.append(measured("features@vgg19", workspace, options))
    found += [measured(f"train@{name}", workspace, options) for name in options.variants]
    found.append(measured("predict", workspace, options))
    kept = ("pictures", "files", "variants", "shard_size", "batch_size")
    return {
        "device": device(),
        "options": {key: getattr(options, key) for key in kept},
        "stages": found,
    }


def params(options: argparse.Namespace) -> dict[str, Any]:
    """params.yaml for so many pictures: the demo's, small, with one epoch of each variant."""
    content = yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())
    held_out = round(options.pictures * HELD_OUT_SHARE)
    content["dataset"] |= {
        "image_size": IMAGE_SIZE,
        "shard_size": options.shard_size,
        "splits": {
            "train": options.pictures - 2 * held_out,
            "validation": held_out,
            "test": held_out,
        },
    }
    content["backbones"] = {"vgg19": content["backbones"]["vgg19"] | {"width": WIDTH}}
    content["features"]["batch_size"] = options.batch_size
    once = {"epochs": 1, "batch_size": options.batch_size}
    content["train"] |= once
    content["variants"] = {name: content["variants"][name] | once for name in options.variants}
    content["export"]["variants"] = []
    return content


def draw_files(folder: Path, count: int) -> None:
    """Make a folder of JPEG files of many sizes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate(rng.integers(*FILE_SIDES, (count, 2), endpoint=True)):
        image, _ = demo.draw(tuple(size.tolist()), (number,))
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=QUALITY)


def measured(name: str, workspace: Workspace, options: argparse.Namespace) -> dict[str, Any]:
    """Run a stage, or predict, and say what was seen of it."""
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    module, _, variant = name.partition("@")
    # dvc.yaml hands the stage's whole name to those that need one.
    arguments = [name] if variant else []
    if name == "predict":
        arguments = ["--variant", options.variants[-1], "--out", "predicted", "pictures"]
    package = "commands" if name == "predict" else "stages"
    command = [sys.executable, "-m", f"{package}.{module}", *arguments]
    watched = watch(command, name, workspace.folder, options.batch_size)
    if len(watched.points) < 2:
        sys.exit(f"error: {name} was over too soon to be measured; take more pictures and files")
    return {"stage": name} | figures(watched)


def watch(command: list[str], stage: str, folder: Path, batch_size: int) -> Watched:
    """Run a command to its end, and look at it while it runs.

    Args:
        command: what to run.
        stage: its name, as DVC tells it.
        folder: where to run it; what it prints is appended to its log.txt.
        batch_size: pictures in a batch of its progress bars.

    Raises:
        subprocess.CalledProcessError: it failed; what it said last is printed.
    """
    bars, samples, due = Bars(batch_size), [], 0.0
    environment = os.environ | {"DVC_STAGE": stage}
    start = time.perf_counter()
    # Bars are drawn on a terminal alone.
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, TERMINAL)
    with (
        (folder / "log.txt").open("ab") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=end) as process,
    ):
        os.close(end)
        for printed in chunks(terminal):
            seconds = time.perf_counter() - start
            if printed:
                log.write(printed)
                log.flush()
                bars.read(seconds, printed.decode(errors="replace"))
            if seconds >= due:
                samples += sample(process.pid, seconds)
                due = seconds + SAMPLE_SECONDS
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    os.close(terminal)
    if process.returncode:
        said = (folder / "log.txt").read_bytes()[-MESSAGE_BYTES:]
        print(said.decode(errors="replace"), file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Watched(Cost(seconds, usage.ru_maxrss * RSS_UNIT_BYTES), bars.points, samples)


def chunks(terminal: int) -> Iterator[bytes]:
    """What is printed on a terminal, as it comes; nothing, each time that nothing came for a while.

    It ends when no process has the terminal any more.
    """
    while True:
        ready, _, _ = select.select([terminal], [], [], SAMPLE_SECONDS)
        try:
            yield os.read(terminal, CHUNK_BYTES) if ready else b""
        except OSError:
            return


def sample(process: int, seconds: float) -> list[Sample]:
    """What /proc says of a process now; nothing if it is just ending."""
    folder = Path(f"/proc/{process}")
    try:
        resident = RESIDENT.search((folder / "status").read_text())
        descriptors = len(list((folder / "fd").iterdir()))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    if not resident:
        return []
    processor = sum(map(int, fields[PROCESSOR_FIELDS])) / os.sysconf("SC_CLK_TCK")
    return [Sample(seconds, int(resident[1]) * 1024, descriptors, processor)]


def figures(watched: Watched) -> dict[str, Any]:
    """What is reported of a process."""
    points, samples = watched.points, watched.samples
    first, last = rate(points, *FIRST), rate(points, *LAST)
    early_samples, last_samples = (within(samples, points, *part) for part in (EARLY, LAST))
    early_resident, last_resident = (
        median(s.resident for s in part) for part in (early_samples, last_samples)
    )
    return {
        "pictures": round(points[-1].pictures),
        "seconds": {
            "all": watched.cost.seconds,
            "first_progress": points[0].seconds,
            "last_progress": points[-1].seconds,
        },
        "pictures_a_second": {
            "all": rate(points),
            "first_tenth": first,
            "last_tenth": last,
            "last_to_first": last / first,
        },
        "processor_ms_a_picture": {
            "first_tenth": processor_ms(samples, points, *FIRST),
            "last_tenth": processor_ms(samples, points, *LAST),
        },
        "resident_bytes": {
            "peak": watched.cost.peak_bytes,
            "second_tenth": early_resident,
            "last_tenth": last_resident,
            "growth": last_resident / early_resident - 1,
        },
        "descriptors": {
            "second_tenth": max(s.descriptors for s in early_samples),
            "last_tenth": max(s.descriptors for s in last_samples),
        },
    }


def moment(points: list[Point], share: float) -> float:
    """When a share of the work was done, in seconds; the first point is where it begins.

    What a process does before that (imports, tracing, measuring the start of a training) is not
    work that repeats.
    """
    seconds, pictures = zip(*points, strict=True)
    wanted = pictures[0] + share * (pictures[-1] - pictures[0])
    return float(np.interp(wanted, pictures, seconds))


def rate(points: list[Point], begin: float = 0.0, end: float = 1.0) -> float:
    """Pictures a second over a part of the work, from one share of it to another."""
    pictures = (end - begin) * (points[-1].pictures - points[0].pictures)
    return pictures / (moment(points, end) - moment(points, begin))


def processor_ms(samples: list[Sample], points: list[Point], begin: float, end: float) -> float:
    """Milliseconds that a picture of a part of the work took of all cores, together.

    Other processes on the machine slow down the work by the clock, and this hardly.
    """
    moments = [moment(points, begin), moment(points, end)]
    used = np.interp(moments, [s.seconds for s in samples], [s.processor for s in samples])
    pictures = (end - begin) * (points[-1].pictures - points[0].pictures)
    return 1000 * float(used[1] - used[0]) / pictures


def within(samples: list[Sample], points: list[Point], begin: float, end: float) -> list[Sample]:
    """The samples of a part of the work; the nearest one, if it was over between two."""
    since, until = moment(points, begin), moment(points, end)
    found = [sample for sample in samples if since <= sample.seconds <= until]
    return found or [min(samples, key=lambda sample: abs(sample.seconds - (since + until) / 2))]


def markdown(results: dict[str, Any]) -> str:
    """What ran where, a table of it, and how to read that."""
    options = results["options"]
    heading = (
        f"On {results['device']}. {options['pictures']:,} pictures of {IMAGE_SIZE} x {IMAGE_SIZE} "
        f"in shards of {options['shard_size']}, VGG19 of width {WIDTH:g}, one epoch of each "
        f"variant in batches of {options['batch_size']}, and {options['files']:,} files for "
        "predict.\n"
    )
    reading = (
        "Pictures are those that the progress bars showed as done: that of a training rounds "
        "from a thousand batches up, and need not show the last ones. Tenths are of the pictures "
        "from the first progress to the last. Imports, tracing and, ahead of a training, measuring "
        "its start come before; validation and what is written in the end come after: they are in "
        "the time, and in no rate. The last tenth of features is of the test split, whose "
        "statistics it does not take. Processor time is that of all cores together, which other "
        "processes hardly change; resident set the median of the tenth's samples; descriptors the "
        "most in it.\n"
    )
    return "\n".join((heading, rates(results), memory(results), reading))


def rates(results: dict[str, Any]) -> str:
    """Time and speed of each process."""
    tenths = ("first_tenth", "last_tenth")
    rows = []
    for found in results["stages"]:
        speed, processor = found["pictures_a_second"], found["processor_ms_a_picture"]
        rows.append(
            (
                found["stage"],
                f"{found['pictures']:,}",
                f"{found['seconds']['all']:,.1f} s",
                *(f"{speed[key]:,.1f}" for key in ("all", *tenths)),
                f"{speed['last_to_first']:.3f}",
                *(f"{processor[key]:.2f} ms" for key in tenths),
            )
        )
    return table(
        (
            "stage",
            "pictures",
            "time",
            "pictures a second",
            "in the first tenth",
            "in the last tenth",
            "last to first",
            "processor time of a picture in the first tenth",
            "in the last tenth",
        ),
        rows,
    )


def memory(results: dict[str, Any]) -> str:
    """Resident set and descriptors of each process."""
    tenths = ("second_tenth", "last_tenth")
    rows = []
    for found in results["stages"]:
        resident, descriptors = found["resident_bytes"], found["descriptors"]
        rows.append(
            (
                found["stage"],
                *(f"{resident[key] / MIB:,.1f} MiB" for key in ("peak", *tenths)),
                f"{resident['growth']:+.1%}",
                *(str(descriptors[key]) for key in tenths),
            )
        )
    return table(
        (
            "stage",
            "peak of the resident set",
            "in the second tenth",
            "in the last tenth",
            "growth",
            "descriptors in the second tenth",
            "in the last tenth",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
