"""Other programs, run by a command."""

import shlex
import signal
import subprocess
from pathlib import Path

from stages.shared.runtime.errors import UserError


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a program and show its output. Ctrl-C stops it; it gets the time that it needs to end.

    Raises:
        UserError: it failed.
    """
    with subprocess.Popen(command, cwd=cwd) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if code:
        raise UserError(f"`{shlex.join(command)}` failed; see above")
