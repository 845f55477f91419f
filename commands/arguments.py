"""Values on the commands' command lines."""

import argparse


def command_line(described: str | None) -> argparse.ArgumentParser:
    """The parser of a command that takes no arguments yet; --help says what it does.

    Args:
        described: the command's docstring, of whose first line that is.
    """
    return argparse.ArgumentParser(description=(described or "").splitlines()[0])


def count(text: str) -> int:
    """A whole number from 1 up.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
