"""A scratch copy of the project, and its stages run as DVC runs them, timed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "dvc.yaml",
    ".dvcignore",
    ".dvc/config",
    ".dvc/plots",
    "constraints.txt",
    "stages",
    "commands",
    "benchmarks",
)
# Resident set sizes come in these (getrusage(2), Linux).
RSS_UNIT_BYTES = 1024


class Cost(NamedTuple):
    """What a command took: wall time, and the largest resident set of its process."""

    seconds: float
    peak_bytes: int


class Workspace:
    """A copy of the project in a folder of its own.

    Args:
        folder: is made.
        params: the content of its params.yaml.
    """

    def __init__(self, folder: Path, params: dict) -> None:
        self.folder = folder
        for name in COPIED:
            self.copy(name)
        for watched in ("data/archives", "data/weights"):
            (folder / watched).mkdir(parents=True)
        (folder / ".gitignore").write_text("__pycache__/\n")
        self.set_params(params)
        self.run("git", "init", "--quiet")

    def copy(self, name: str) -> None:
        """Copy a file or folder of the project."""
        source, target = ROOT / name, self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def set_params(self, params: dict) -> None:
        """Write params.yaml."""
        text = yaml.safe_dump(params, sort_keys=False)
        (self.folder / "params.yaml").write_text(text)

    def stage(self, name: str, *arguments: str) -> Cost:
        """Run a stage's module."""
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments)

    def run(self, *command: str, log: str = "log.txt") -> Cost:
        """Run a command in the folder, its output appended to the file `log`.

        Raises:
            subprocess.CalledProcessError: it failed; the log says why.
        """
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / log).open("ab") as output:
            start = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | {"PATH": programs},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            print((self.folder / log).read_text(errors="replace")[-3000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
        return Cost(seconds, usage.ru_maxrss * RSS_UNIT_BYTES)

    def size(self, *names: str) -> int:
        """Bytes of all files in some folders; links to the same bytes count once."""
        files = (path for name in names for path in (self.folder / name).rglob("*"))
        stats = (path.stat() for path in files if path.is_file())
        return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())


def device() -> str:
    """What it ran on; asked of a process of its own, for it imports TensorFlow."""
    program = "from benchmarks import rates; print(rates.device())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
