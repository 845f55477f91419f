"""Other programs, run by a command."""

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from stages.shared.runtime.errors import UserError

# How long a program that was told to end may take, and how often it is told.
END_SECONDS, TIMES_TOLD = 20, 3


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a program and show its output; Ctrl-C ends it, and what it has started.

    Raises:
        UserError: it failed, or is not in PATH.
    """
    require(command[0])
    # In a session of its own: Ctrl-C reaches it through this process, and as often as it takes.
    with subprocess.Popen(command, cwd=cwd, start_new_session=True) as process:
        try:
            code = process.wait()
        finally:
            end(process)
    if code:
        raise UserError(f"`{shlex.join(command)}` failed; see above")


def require(program: str) -> None:
    """Fail on a program that is not in PATH.

    Raises:
        UserError: names it.
    """
    if shutil.which(program) is None:
        environment = ", or activate the environment: . .venv/bin/activate"
        raise UserError(
            f"{program} is not in PATH; install it{environment if program == 'dvc' else ''}"
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads its session, and what it has started, as Ctrl-C does.

    DVC passes over a Ctrl-C that comes as a stage ends, and begins the next.
    """
    try:
        for _ in range(TIMES_TOLD):
            if process.poll() is not None:
                return
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
    finally:
        # At a second Ctrl-C too.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
