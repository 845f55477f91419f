"""Staging of outs: written beside their final location, moved there when complete.

    data/records/                    an out
    data/.partial/records/content/   the same on its way
    data/.partial/records/parts/     what each finished part of it is
    data/.partial/records/made_from  digest of all that it is made from

A stage that is killed leaves nothing where its outs should be, but for small files that are to be
watched while it runs (`Staging.show`). Started again with the same code, data and parameters, it
takes over the finished parts.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, Self, TypeVar

import filelock
from pydantic_core import to_json

from stages.shared.runtime import digests, disk, packages, stopping
from stages.shared.runtime.errors import UserError

# Beside an out; neither Git nor DVC looks into it.
PARTIAL = ".partial"
# What an out was before it is replaced.
FORMER = "former"


class Part(Protocol):
    """A description of a finished part of an output, which is kept in a file.

    Attributes:
        files: digest of each file of the part, by its path in the output.
    """

    @property
    def files(self) -> dict[str, str]: ...

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the description.

        Raises:
            UserError: it is damaged, or of another version of the pipeline.
        """

    def write(self, path: Path) -> None:
        """Write the description."""


AnyPart = TypeVar("AnyPart", bound=Part)


class Staging:
    """The outs of a running stage, beside the place where they belong; see `writing`.

    Args:
        outs: files and folders.
        kept: whether what is finished outlives an interruption.
    """

    def __init__(self, outs: tuple[Path, ...], kept: bool) -> None:
        self.kept = kept
        self._partial = {out: out.parent / PARTIAL / out.name for out in outs}
        self._first = next(iter(self._partial.values()))
        self._shown: set[Path] = set()
        self._finished = 0

    def folder(self, out: Path) -> Path:
        """Where to write what belongs into the folder `out`."""
        content = self._content(out)
        content.mkdir(exist_ok=True)
        return content

    def file(self, out: Path) -> Path:
        """Where to write what is to be the file `out`."""
        return self._content(out)

    def show(self, out: Path, write: Callable[[Path], object]) -> None:
        """Put a small file in its place while the stage still runs, and again when it changes."""
        write(self.file(out))
        self.file(out).replace(out)
        self._shown.add(out)

    def state(self, name: str) -> Path:
        """A file that outlives an interruption and is gone when the outs are in their place."""
        return self._first / name

    def finished(self, name: str, kind: type[AnyPart]) -> AnyPart | None:
        """A part of the first out, if an earlier run has finished it and it is whole."""
        try:
            part = kind.read(self._part(name))
            digests.require_whole({self._first / "content" / f: d for f, d in part.files.items()})
        except (UserError, FileNotFoundError):
            return None
        if not self._finished:
            print(f"{next(iter(self._partial))}: continuing an interrupted run")
        self._count()
        return part

    def keep(self, name: str, part: Part) -> None:
        """Note a part of the first out, whose files are written, as finished."""
        for file in part.files:
            disk.flush(self._first / "content" / file)
        self._part(name).parent.mkdir(exist_ok=True)
        disk.replace(self._part(name), part.write)
        self._count()

    def begin(self, made_from: str | None) -> None:
        """Keep the parts of an earlier run that was made from the same inputs; else remove them."""
        mark = self.state("made_from")
        same = made_from is not None and mark.exists() and mark.read_text() == made_from
        for partial in self._partial.values():
            if not (same and partial == self._first):
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, exist_ok=True)
            _remove(partial / FORMER)
        if made_from is not None:
            mark.write_text(made_from)

    def commit(self) -> None:
        """Flush the outs to disk and move them to their place."""
        for out in self._shown:
            disk.flush(out)
        hidden = {out: p for out, p in self._partial.items() if out not in self._shown}
        for out in hidden:
            for path in (self._content(out), *self._content(out).rglob("*")):
                disk.flush(path)
        for out, partial in hidden.items():
            if out.exists():
                # It may contain hard links into DVC's cache, so it is moved, never overwritten.
                out.rename(partial / FORMER)
            self._content(out).rename(out)
            disk.flush(out.parent)
        self.remove()

    def remove(self) -> None:
        """Remove what is beside the outs."""
        for partial in self._partial.values():
            shutil.rmtree(partial, ignore_errors=True)

    def resumable(self) -> bool:
        """Whether there are finished parts to resume from."""
        marks = {path.name for path in self._first.iterdir()} - {"content"}
        return "made_from" in marks and len(marks) > 1

    def size(self) -> int:
        """Bytes that lie beside the outs."""
        files = (file for p in self._partial.values() for file in p.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files)

    def _count(self) -> None:
        self._finished += 1
        stopping.stands(f"{self._finished} finished shards are kept")

    def _part(self, name: str) -> Path:
        return self._first / "parts" / f"{name}.json"

    def _content(self, out: Path) -> Path:
        return self._partial[out] / "content"


@contextmanager
def writing(*outs: Path, made_from: str | None = None, need: int = 0) -> Iterator[Staging]:
    """Write all outs of a stage; they come into their place together, if nothing is raised.

    Args:
        outs: files and folders.
        made_from: digest of all that they are made from, see `origin`; what an earlier run that
            was interrupted has finished is kept if its digest was the same. None: nothing is kept.
        need: bytes that the outs will take, as far as it is known.

    Raises:
        UserError: another process writes the first out, or the disk is full.
    """
    staging = Staging(outs, kept=made_from is not None)
    first = outs[0]
    partial = first.parent / PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(partial / f"{first.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another process is writing {first}; wait until it ends, or stop it, and run "
            "this again"
        ) from None
    try:
        staging.begin(made_from)
        disk.require_space(first, need - staging.size())
        yield staging
        staging.commit()
    except BaseException as error:
        full = disk.told_full(error, first, need, staging.size())
        if not staging.resumable():
            staging.remove()
        if full:
            raise full from None
        raise
    finally:
        # Only its holder removes it; `filelock` makes sure that a lock it takes is still there.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        for folder in {out.parent / PARTIAL for out in outs}:
            with suppress(OSError):
                folder.rmdir()


def origin(*facts: object) -> str:
    """A digest of what a stage's outs are made from.

    Args:
        facts: its parameters, and descriptions of what it reads, as pydantic writes them in JSON.
            The code of all modules of the pipeline that are loaded, and the packages, count by
            themselves.
    """
    names = [name for name in sys.modules if name.split(".")[0] in ("__main__", "stages")]
    code = {getattr(sys.modules[name], "__file__", None) or "" for name in names} - {""}
    read = [digests.digest(Path(file)) for file in sorted(code)]
    return digests.digest_of(to_json([facts, read, packages.versions()]))


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
