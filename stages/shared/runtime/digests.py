"""SHA-256 of files: whether they are still what was written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.runtime.paths import maker


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


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


def damaged(path: Path, reason: str) -> str:
    """The message about a damaged file."""
    return (
        f"{path} is damaged: {reason}; `dvc repro --force --single-item {maker(path)}` writes it "
        "again"
    )
