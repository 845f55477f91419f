"""Digests of files: whether they are still what was written.

XXH3 of 128 bits, which takes a tenth of the time of SHA-256. It finds damage, not deceit: whoever
can change a file can change the manifest that has its digest. Weights that are downloaded or come
with a package are held to a SHA-256.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import xxhash

from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.runtime.paths import maker

# Of what comes piece by piece; has `update` and `hexdigest`, as those of hashlib.
Digest = xxhash.xxh3_128


def digest(path: Path) -> str:
    """Digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, Digest).hexdigest()


def digest_of(content: bytes | memoryview) -> str:
    """Digest of some bytes, in hexadecimal."""
    return Digest(content).hexdigest()


def require_whole(digests: Mapping[Path, str]) -> None:
    """Fail on a file that has changed since its digest was taken; reads them on all cores.

    DVC compares what a stage reads with dvc.lock by time and size unless these have changed; a
    stage run by hand is not checked at all.

    Raises:
        UserError: names the first such file.
    """
    for path, found in ordered_map(lambda path: (path, digest(path)), digests):
        if found != digests[path]:
            raise UserError(damaged(path, "its digest does not match"))


@contextmanager
def marks_of_conflicts(path: Path) -> Iterator[None]:
    """A scope in which a report is read; Git keeps it, and may have left such marks in it.

    Raises:
        UserError: the file does not hold what it should.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(damaged(path, str(error))) from None


def damaged(path: Path, reason: str) -> str:
    """The message about a damaged file."""
    return (
        f"{path} is damaged: {reason}; `dvc repro --force --single-item {maker(path)}` writes it "
        "again"
    )
