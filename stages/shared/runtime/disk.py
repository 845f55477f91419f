"""Files on their way to the disk, its free space, and the message when that runs out."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from stages.shared.runtime.errors import UserError

MAKE_ROOM = "free some space and run `dvc repro` again"


def require_space(out: Path, need: int) -> None:
    """Fail if an out needs more bytes than are free where it will lie.

    Raises:
        UserError: says how many it needs and how many are free.
    """
    if need > _free(out):
        raise UserError(f"{out} needs {_bytes(need)} more, and {_room(out)}; {MAKE_ROOM}")


def told_full(error: BaseException, out: Path, need: int, written: int) -> UserError | None:
    """The message if an error was caused by a full disk, else None.

    Args:
        error: that ended the writing.
        out: was being written.
        need: its bytes; 0 where that is not known.
        written: bytes of it that there are.
    """
    if not _is_full(error):
        return None
    wanted = _bytes(need) if need else f"more than {_bytes(written + _free(out))}"
    return UserError(
        f"the disk is full: {out} needs {wanted} in all, {_bytes(written)} are written, and "
        f"{_room(out)}; {MAKE_ROOM}"
    )


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a small file beside `path`, flush it, and put it in its place."""
    beside = path.with_name(f"{path.name}.new")
    write(beside)
    flush(beside)
    beside.replace(path)


def flush(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full(error: BaseException | None) -> bool:
    """Whether an error says that the disk is full; libraries in C++ say so in their text alone."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "errno = 28" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _room(out: Path) -> str:
    return f"the disk of {out.parent.resolve()} has {_bytes(_free(out))} free"


def _free(out: Path) -> int:
    return shutil.disk_usage(out.parent).free


def _bytes(size: int) -> str:
    return tqdm.format_sizeof(size, "B")
