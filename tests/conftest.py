"""A tiny copy of the project, and ways to run its real commands."""

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from stages.prepare.settings import Source
from stages.shared.networks import backend
from tests import warm

# Before any test imports TensorFlow.
os.environ |= backend.ENVIRONMENT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Route

SECONDS = "reports/seconds/"
ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests/faults"
COPIED = (
    "dvc.yaml",
    ".dvcignore",
    "constraints.txt",
    "stages",
    "commands",
    "profiles",
    ".dvc/config",
    ".dvc/plots",
    "reports/vega",
    "data/archives",
    "data/features/.gitignore",
    "data/weights",
)
# Set by `make campaign`: what can be done for any length of time is done for longer, and what forks
# else starts as it does for a user. With `all`, every network is tried, not one of each family.
CAMPAIGN = os.environ.get("CAMPAIGN") in ("yes", "all")
EVERY_NETWORK = os.environ.get("CAMPAIGN") == "all"
# How long a test waits for what other processes do.
WAIT_SECONDS = 600
CHROMIUM = Path("/usr/bin/chromium")
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """Pixels as the bytes of a picture file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def tiny_params(profile: Path = ROOT / "profiles/demo.yaml") -> dict:
    """The demo's parameters, shrunk to a dozen small pictures and one narrow backbone."""
    params = yaml.safe_load(profile.read_text())
    # `auto` takes bfloat16 where the processor has it, and then what is trained is another.
    params["precision"] = "float32"
    params["dataset"] |= {
        "image_size": 64,
        "shard_size": 4,
        "splits": {"train": 6, "validation": 3, "test": 3},
    }
    params["backbones"] = {"vgg19": params["backbones"]["vgg19"] | {"width": 0.0625}}
    on_vgg19 = {n: v for n, v in params["variants"].items() if v["backbone"] == "vgg19"}
    params["variants"] = on_vgg19
    params["train"] |= {"epochs": 2, "batch_size": 1}
    params["variants"]["fcn8s-finetuned"] |= {"epochs": 1, "batch_size": 3}
    params["compare"]["pictures"] = 2
    params["export"]["variants"] = ["fcn32s"]
    return params


def write_params(dataset: Source, seed: int) -> None:
    """Write a params.yaml with what the stage `prepare` reads."""
    params = {"seed": seed, "dataset": dataset.model_dump()}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


class Project:
    """A checkout in a folder of its own, and its commands."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def counts(self) -> Path:
        """Of the built project: a folder that tells how many things each stage did."""
        return self.folder.with_name("counts")

    @property
    def output(self) -> Path:
        """Of the built project: what `dvc repro` printed."""
        return self.folder.with_name("printed.json")

    def run(
        self, *command: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess:
        """Run a command in the folder, with this Python's programs first in the path."""
        with self.start(*command, **environment) as process:
            stdout, stderr = process.communicate()
        done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Start a command as `run` does, in a process group of its own."""
        programs = (os.environ["WARM_FOLDER"], str(Path(sys.executable).parent))
        path = os.pathsep.join((*programs, os.environ["PATH"]))
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        # What DVC notes of a project lies beside it, and goes with it.
        own = {"DVC_SITE_CACHE_DIR": str(self.folder.with_name(f"{self.folder.name}-site"))}
        own |= {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=inherited | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def repro(self) -> list[str]:
        """`dvc repro`; the stages that it ran, in order."""
        return stages_run(self.run("dvc", "repro").stdout)

    def stage(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a stage's module, as dvc.yaml does."""
        return self.run("python", "-m", f"stages.{name}", *arguments, check=check)

    def command(
        self, name: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess:
        """Run a command of the project by hand."""
        return self.run("python", "-m", f"commands.{name}", *arguments, check=check)

    @property
    def params(self) -> dict:
        """What params.yaml holds."""
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def set_params(self, changes: dict) -> None:
        """Change params.yaml by dotted keys, such as `{"train.epochs": 3}`."""
        params = self.params
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = params
            for name in sections:
                section = section[name]
            section[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def digests(self, *names: str) -> dict[str, str]:
        """MD5 of some files, and of all in some folders, by path; but how long stages took."""
        roots = [self.folder / name for name in names]
        files = sorted(p for root in roots for p in (root, *root.rglob("*")) if p.is_file())
        digests = {
            str(path.relative_to(self.folder)): hashlib.md5(path.read_bytes()).hexdigest()
            for path in files
        }
        return {path: md5 for path, md5 in digests.items() if not path.startswith(SECONDS)}

    def commit(self) -> None:
        """Put the state of the folder into Git."""
        self.run("git", "add", "--all")
        author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        self.run("git", *author, "commit", "--quiet", "--message", "state")


def stages_run(printed: str) -> list[str]:
    """The stages that a `dvc repro` says it ran, in order."""
    return re.findall(r"^Running stage '(.+)':$", printed, re.MULTILINE)


def copy_project(folder: Path) -> Project:
    """A tiny copy of the project that has not run yet."""
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    (folder / ".gitignore").write_text(
        "__pycache__/\n.partial/\n.dvc/tmp/\n.dvc/cache/\n/reports/seconds/\n"
    )
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    project = Project(folder)
    project.run("git", "init", "--quiet")
    return project


def clone(project: Project, folder: Path, *, cache: bool = True) -> Project:
    """A Git clone of a committed project; with links to what its cache has, its outs are there."""
    project.run("git", "clone", "--quiet", ".", str(folder))
    cloned = Project(folder)
    if cache:
        name = ".dvc/cache"
        shutil.copytree(project.folder / name, folder / name, copy_function=os.link)
        cloned.run("dvc", "checkout")
    return cloned


def processes_in(folder: Path) -> list[str]:
    """The commands of the processes that work in a folder, or below it."""
    found = []
    for process in Path("/proc").iterdir():
        # Any may end meanwhile.
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once something has come to pass."""
    limit = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.5)


def wait_until_runs(word: str, process: subprocess.Popen, folder: Path) -> None:
    """Return once `process` has something running in a folder, with this word in its command."""

    def runs_or_ended() -> bool:
        return process.poll() is not None or any(word in run for run in processes_in(folder))

    wait_until(runs_or_ended)
    assert process.poll() is None


def free_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def fresh_project(tmp_path: Path) -> Project:
    """A tiny project in which nothing has run."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, committed; tests leave it as it is."""
    return built_once(tmp_path_factory, "built", {})


@pytest.fixture(scope="session")
def single_variant(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with the variant fcn32s alone."""
    variants = {"fcn32s": tiny_params()["variants"]["fcn32s"]}
    return built_once(tmp_path_factory, "single", {"variants": variants})


def built_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: dict[str, object]
) -> Project:
    """A tiny project with changed parameters; the first of the workers that needs it builds it, and
    every one has a copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    original, unfinished = shared / name, shared / f"{name}-unfinished"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not original.exists():
            project = copy_project(unfinished / "project")
            project.set_params(changes)
            build(project)
            unfinished.rename(original)
    folder = tmp_path_factory.mktemp(name)
    copy_of(Project(original), folder / "all")
    return Project(folder / "all/project")


def build(project: Project) -> None:
    """Run and commit a tiny project; keep what it printed, and how many things each stage did."""
    project.counts.mkdir()
    counted = {"PYTHONPATH": str(FAULTS), "FAULT_COUNTS": str(project.counts)}
    done = project.run("dvc", "repro", **counted)
    project.output.write_text(json.dumps({"stdout": done.stdout, "stderr": done.stderr}))
    project.commit()


def copy_of(project: Project, folder: Path) -> Project:
    """A copy of a project with its history and its cache, to whose files its outs are links."""
    subprocess.run(["cp", "--archive", project.folder, folder], check=True)
    return Project(folder)


@pytest.fixture
def project(built_project: Project, tmp_path: Path) -> Project:
    """A copy of the built project, for the test to change."""
    return copy_of(built_project, tmp_path / "built")


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Of an S3 server on this machine, empty at first."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def in_project(built_project: Project, tmp_path: Path, monkeypatch) -> Project:
    """A copy of the built tiny project, as the current folder."""
    shutil.copytree(
        built_project.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", "cache")
    )
    for path in (tmp_path / "copy").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    monkeypatch.chdir(tmp_path / "copy")
    # Nothing is loaded yet in the process of a stage.
    import_module("stages.features.shard").stored.cache_clear()
    return Project(tmp_path / "copy")


def pytest_configure(config: pytest.Config) -> None:
    """Start what the commands of all tests are forked from, once, before any worker starts."""
    if not hasattr(config, "workerinput"):
        # What a shell starts in the background ignores Ctrl-C, and all that it starts does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        programs = warm.Programs()
        os.environ["WARM_FOLDER"] = str(programs.folder)
        config.add_cleanup(programs.stop)


# Files with long tests, which are begun first: begun last, one would keep a single worker busy.
# The second needs no built project, which the first one makes.
FIRST = (
    "pipeline/test_kill::test_wherever",
    "benchmarks/test_benchmark",
    "pipeline/test_kill",
    "pipeline/test_families",
    "commands/test_sweep",
    "docs/test_readme",
    "pipeline/test_experiments",
    "train/test_processes",
    "train/test_devices",
    "commands/test_reproduce",
    "shared/engines/test_ray",
    "pipeline/test_rebuild",
    "commands/test_sharing",
    "benchmarks/test_soak",
    "commands/test_app",
    "prepare/test_own_data",
    "docs/test_contributing",
    "pipeline/test_pipeline",
    "pipeline/test_damage",
    "train/test_train",
    "train/test_training",
    "export/test_export",
)
# Those of them whose tests share what takes long to make, or take ten gigabytes each, so that one
# worker takes them all.
TOGETHER = (
    "pipeline/test_families",
    "commands/test_sweep",
    "docs/test_readme",
    "pipeline/test_experiments",
    "shared/engines/test_ray",
    "commands/test_app",
    "prepare/test_own_data",
    "train/test_devices",
)


def named(test: str) -> str:
    """A test as `FIRST` names it, such as train/test_losses::test_dice."""
    return test.removeprefix("tests/").replace(".py::", "::")


def place(test: str) -> int:
    """How many entries of `FIRST` are begun before a test."""
    found = [number for number, start in enumerate(FIRST) if named(test).startswith(start)]
    return min(found, default=len(FIRST))


class ByFile(LoadScopeScheduling):
    """The tests of a file go to one worker; those of a long file that share nothing, to any."""

    def _split_scope(self, nodeid: str) -> str:
        file = named(nodeid).partition("::")[0]
        return nodeid if place(nodeid) < len(FIRST) and file not in TOGETHER else file


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker more than there are cores: some tests wait for DVC's workers, or for a browser."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How the tests are shared out among the workers."""
    # In the order of their collection, not those with the most tests first.
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first; skip what needs a browser, before it is made, if there is none."""
    items.sort(key=lambda item: place(item.nodeid))
    if CHROMIUM.exists():
        return
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            # The name makes pytest's summary list each of them.
            reason = f"{item.name} needs {CHROMIUM}, which is not there"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Debian's chromium, headless."""
    # Here, for most tests do without.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=BROWSER_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def open_file(browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """Opens a page from the disk in a browser of a width, without a network.

    The test fails if the page asks for anything but files in the folder `within`, or if its console
    has an error or a warning, but for those that hold the text `tolerated`.
    """
    contexts, faults = [], []

    def open_file(path: Path, within: Path, width: int = 1280, tolerated: str = "\0") -> "Page":
        def allowed(url: str) -> bool:
            parts = urlsplit(url)
            inside = Path(unquote(parts.path)).is_relative_to(within.resolve())
            return parts.scheme in ("data", "blob") or (parts.scheme == "file" and inside)

        def through(route: "Route") -> None:
            if allowed(route.request.url):
                route.continue_()
            else:
                route.abort()

        def hear(said: "ConsoleMessage") -> None:
            if said.type in ("error", "warning") and tolerated not in said.text:
                faults.append(said.text)

        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        contexts.append(context)
        context.route("**/*", through)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", hear)
        page.on("request", lambda r: None if allowed(r.url) else faults.append(r.url))
        page.goto(path.resolve().as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert faults == []
