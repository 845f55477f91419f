"""What a user can get wrong, and how a stage says so."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.shared import stopping

# First parts of the paths that stages write and later ones read.
OUTPUT_FOLDERS = (("data",), ("models",), ("reports",))


class UserError(Exception):
    """A mistake in the user's parameters, files or surroundings.

    Its text is one sentence that names the key, file or value at fault and the way out. Anything
    else that is raised is a bug and keeps its traceback.
    """


def run_stage(stage: Callable[..., None], *arguments: str) -> None:
    """Run a stage as a program: a user's mistake becomes its sentence on stderr and exit code 1.

    Args:
        stage: is called with the command line's arguments; of a stage's name in DVC,
            `train@fcn8s`, with what follows the @.
        arguments: their names.
    """
    if len(sys.argv) - 1 != len(arguments):
        sys.exit(" ".join(("usage: python -m", f"stages.{stage.__name__}", *arguments)))
    with in_plain_words(stopping.standing):
        stage(*(argument.removeprefix(f"{stage.__name__}@") for argument in sys.argv[1:]))


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
        if Path(str(error.filename)).parts[:1] not in OUTPUT_FOLDERS:
            raise
        sys.exit(f"error: {error.filename} is missing; `dvc repro` makes it")
    except KeyboardInterrupt:
        sys.exit(f"\n{after_stop()}")
