"""Values on the commands' command lines."""

import argparse


def none(description: str | None) -> None:
    """Read the command line of a command that takes no arguments; --help says what it does.

    Args:
        description: its module's docstring.
    """
    argparse.ArgumentParser(description=(description or "").splitlines()[0]).parse_args()


def count(text: str) -> int:
    """A whole number from 1 up.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
