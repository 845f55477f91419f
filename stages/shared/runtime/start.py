"""The start of a process: of a stage, or of a command that is run by hand."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from stages.shared.runtime import packages, place, seconds, stopping
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import OUTPUT_FOLDERS

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def stage(name: str, *arguments: str, setup: Callable[[], None] = lambda: None) -> None:
    """Run `stages/NAME/stage.py` as a program, and print what it has made and how long it took.

    The module is imported here, once the process is set up, and its function NAME is called.

    Args:
        name: of the stage.
        arguments: names of those on the command line; of a stage's name in DVC, `train@fcn8s`, the
            function gets what follows the @.
        setup: is called before the module is imported.
    """
    began = time.monotonic()
    if len(sys.argv) - 1 != len(arguments):
        sys.exit(" ".join((f"usage: python -m stages.{name}", *arguments)))
    keep_freed_memory()
    with in_plain_words(stopping.standing):
        # DVC's name of the stage; by hand there is none.
        if line := place.told(os.environ.get("DVC_STAGE", "")):
            print(line, flush=True)
        setup()
        run: Callable[..., str] = getattr(import_module(f"stages.{name}.stage"), name)
        given = [argument.removeprefix(f"{name}@") for argument in sys.argv[1:]]
        made = run(*given)
        took = time.monotonic() - began
        stage = "@".join((name, *given))
        packages.note(stage)
        seconds.note(stage, took)
        # It is done, and Ctrl-C could only interrupt what cleans up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"{made}; {took:.1f} s", flush=True)


def command(
    name: str, after_stop: str, needs: str = "", setup: Callable[[], None] = lambda: None
) -> None:
    """Run `main` of `commands/NAME/command.py` as a program.

    Args:
        name: of the command.
        after_stop: what to say after Ctrl-C.
        needs: a package that is not in requirements.txt, and that `make NAME` installs.
        setup: is called before the module is imported.
    """
    # As it was called, for its --help.
    sys.argv[0] = f"python -m commands.{name}"
    keep_freed_memory()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Else what a command has started, in a session of its own, would go on.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda *_: sys.exit(f"stopped; {after_stop}"))
    with in_plain_words(lambda: f"stopped; {after_stop}"):
        if needs and find_spec(needs) is None:
            raise UserError(f"{needs} is not installed; `make {name}` installs it")
        setup()
        run: Callable[[], int | None] = import_module(f"commands.{name}.command").main
        sys.exit(run())


@contextmanager
def in_plain_words(after_stop: Callable[[], str]) -> Iterator[None]:
    """Turn a user's mistake and Ctrl-C into a sentence on stderr and exit code 1.

    Args:
        after_stop: what to say after Ctrl-C.
    """
    try:
        with stopping.in_time(after_stop):
            yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError as error:
        if Path(str(error.filename)).parts[:1] not in [(folder,) for folder in OUTPUT_FOLDERS]:
            raise
        sys.exit(f"error: {error.filename} is missing; `dvc repro` makes it")
    except KeyboardInterrupt:
        sys.exit(f"\n{after_stop()}")


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks instead of returning them to the kernel.

    A training step frees and allocates the same large arrays again and again. By default each comes
    back as fresh pages, and on a CPU the page faults take as long as the arithmetic.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_TOP_PAD, 64 << 20)
