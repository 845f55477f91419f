"""What a user can get wrong, and how a stage says so."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the user's parameters, files or surroundings.

    Its text is one sentence that names the key, file or value at fault and the way out. Anything
    else that is raised is a bug and keeps its traceback.
    """


def run_stage(stage: Callable[[], None]) -> None:
    """Run a stage as a program: a `UserError` becomes its sentence on stderr and exit code 1."""
    try:
        stage()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; `dvc repro` starts this stage again")
