"""`tests/warm`: what is forked from a warm parent does what a new process does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Project, processes_in, wait_until
from .warm import COLD

# A module of a project, in place of a stage.
MODULE = """
import atexit, os, signal, sys, threading
atexit.register(print, "at exit")
print("warm" if "CALLERS_GROUP" in os.environ else "cold", file=open("how", "w"))
print(__name__, __file__, sys.argv, sys.orig_argv[1:], sys.path[0], os.getcwd())
print(sorted(os.sched_getaffinity(0)), os.umask(0), signal.getsignal(signal.SIGINT))
print(os.environ.get("GIVEN"), os.environ.get("FOUND"), sys.flags.hash_randomization)
if "read" in sys.argv:
    print(sys.stdin.read())
if "sentence" in sys.argv:
    sys.exit("error: a sentence")
if "status" in sys.argv:
    sys.exit(7)
if "bug" in sys.argv:
    1 / 0
if "killed" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
if "thread" in sys.argv:
    threading.Timer(0.1, print, ["from a thread"]).start()
if "interrupted" in sys.argv:
    os.kill(os.getpid(), signal.SIGINT)
if "hash" in sys.argv:
    print(hash("a name"))
if "wait" in sys.argv:
    print("waiting", flush=True)
    signal.pause()
"""


@pytest.fixture
def own(tmp_path: Path) -> Project:
    """A folder with a module to run."""
    folder = tmp_path / "own"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages/__init__.py").touch()
    (folder / "stages/made_up.py").write_text(MODULE)
    return Project(folder)


def both(own: Project, *command: str, **environment: str) -> Iterator[tuple[int, str, str]]:
    """Exit status and output of a command without a parent, and with one."""
    for how in (COLD, {}):
        done = own.run(*command, check=False, **environment | how)
        assert (own.folder / "how").read_text() == ("cold\n" if how else "warm\n")
        # A traceback has lines of the parent's too.
        yield done.returncode, done.stdout, done.stderr.strip().rpartition("\n")[2]


MODULE_ARGUMENTS = ("read", "sentence", "status", "bug", "killed", "thread", "interrupted")


@pytest.mark.parametrize("argument", MODULE_ARGUMENTS)
def test_arguments_output_and_exit_status_are_those_of_a_new_process(argument: str, own: Project):
    command = ("sh", "-c", f"echo read | python -m stages.made_up {argument} 'two words'")
    cold, warm = both(own, *command, GIVEN="in the environment")
    assert warm == cold
    assert argument in cold[1] or cold[0] != 0


@pytest.mark.parametrize(
    "prefix", ["taskset --cpu-list 0", "umask 077;", "trap '' INT;", "PYTHONHASHSEED=0"]
)
def test_what_a_process_has_of_its_caller_is_handed_on(prefix: str, own: Project):
    cold, warm = both(own, "sh", "-c", f"{prefix} python -m stages.made_up")
    assert warm == cold


def test_a_seed_of_hashes_is_the_process_s(own: Project):
    cold, warm = both(own, "python", "-m", "stages.made_up", "hash", PYTHONHASHSEED="0")
    assert warm == cold


def test_python_s_path_and_what_it_customizes_are_heeded(own: Project, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['FOUND'] = 'customized'")
    cold, warm = both(own, "python", "-m", "stages.made_up", PYTHONPATH=str(tmp_path))
    assert warm == cold
    assert "customized" in cold[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_caller_reaches_the_process(number: int, own: Project):
    statuses = []
    for how in (COLD, {}):
        process = own.start("python", "-m", "stages.made_up", "wait", **how)
        assert any(line == "waiting\n" for line in process.stdout)
        process.send_signal(number)
        process.communicate()
        statuses.append(process.returncode)
    assert statuses == [-number, -number]


def test_who_is_killed_takes_the_forked_process_along(own: Project):
    process = own.start("python", "-m", "stages.made_up", "wait")
    assert any(line == "waiting\n" for line in process.stdout)
    assert len(processes_in(own.folder)) == 2
    process.kill()
    process.communicate()
    wait_until(lambda: not processes_in(own.folder))


def test_another_backend_and_other_modules_are_run_as_they_are(own: Project):
    (own.folder / "other.py").write_text(MODULE)
    own.run("python", "-m", "stages.made_up", KERAS_BACKEND="jax")
    assert (own.folder / "how").read_text() == "cold\n"
    own.run("python", "-m", "other")
    assert (own.folder / "how").read_text() == "cold\n"


def test_a_forked_process_has_tensorflow_and_no_module_of_another_project(own: Project):
    (own.folder / "stages/made_up.py").write_text(
        "import sys\n"
        "assert 'tensorflow' in sys.modules and 'CALLERS_GROUP' in __import__('os').environ\n"
        "print(*[name for name in sys.modules if name.startswith(('stages', 'tests'))])\n"
    )
    assert own.run("python", "-m", "stages.made_up").stdout == "stages\n"


def test_the_parents_end_with_whoever_started_them_and_however_that_ends(tmp_path: Path):
    program = (
        "import os, signal; from tests.warm import Programs; programs = Programs(); "
        "print(programs.folder, *(p.pid for p in programs.parents), flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program]
    root = Path(__file__).parent.parent
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    _, *parents = done.stdout.split()
    assert len(parents) == 3
    wait_until(lambda: not any(running(parent) for parent in parents))


def running(process: str) -> bool:
    """Whether a process is there, and no zombie, which it stays where nobody waits for orphans."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
