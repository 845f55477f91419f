"""The pictures that `predict` is given: found, decoded, and gathered into batches."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from commands.predict.segmenter import Segmenter
from stages.shared.formats.pictures import FORMATS, BadPictureError, Size
from stages.shared.runtime.errors import UserError

# Not those that Pillow tells apart and does not decode by itself.
READ = {*FORMATS, "MPO"} - {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}


class PictureTask(NamedTuple):
    """A picture's file, and where its mask goes, relative to the output folder, without suffix."""

    picture: Path
    target: Path


class Loaded(NamedTuple):
    """A decoded picture.

    Attributes:
        task: what it is for.
        resized: what the network sees of it, uint8 (height, width, 3).
        size: its own (height, width).
        picture: all of it, uint8 (height, width, 3), if an overlay is wanted.
    """

    task: PictureTask
    resized: np.ndarray
    size: Size
    picture: np.ndarray | None


class Failed(NamedTuple):
    """A picture that can't be used, and why."""

    task: PictureTask
    reason: str


def tasks(paths: Iterable[Path], out: Path, folders: Iterable[Path]) -> list[PictureTask]:
    """The pictures to predict; for a folder, every picture below it.

    A mask is named as its picture. Where two pictures differ in their suffix alone, it keeps that
    too.

    Args:
        paths: of pictures and folders.
        out: what lies below it is no picture.
        folders: that the masks will be written to.

    Raises:
        UserError: a path does not exist, two pictures have one name, or one would be overwritten.
    """
    found: list[PictureTask] = []
    own = out.resolve()
    for path in paths:
        if path.is_dir():
            if path.resolve() == own:
                raise UserError(f"--out is {path}, the folder of your pictures; use another")
            pictures = list(_pictures(path))
            if own.is_relative_to(path.resolve()):
                pictures = [p for p in pictures if not p.resolve().is_relative_to(own)]
            if not pictures:
                raise UserError(f"{path}/ has no picture that Pillow can read")
            found += [PictureTask(p, p.relative_to(path)) for p in pictures]
        elif path.exists():
            found.append(PictureTask(path, Path(path.name)))
        else:
            raise UserError(f"{path} does not exist")
    # A picture may be named twice, and lie in a folder that is named.
    found = list({(task.picture.resolve(), task.target): task for task in found}.values())
    bare = [task.target.with_suffix("") for task in found]
    twice = {name for name, count in Counter(bare).items() if count > 1}
    found = [
        PictureTask(task.picture, task.target if name in twice else name)
        for task, name in zip(found, bare, strict=True)
    ]
    sources = {task.picture.resolve() for task in found}
    first: dict[Path, Path] = {}
    for picture, target in found:
        if (other := first.setdefault(target, picture)) != picture:
            raise UserError(f"{other} and {picture} would both become {out / target}.png")
        for folder, suffix in product(folders, (".png", ".overlay.jpg")):
            if (written := Path(f"{folder / target}{suffix}")).resolve() in sources:
                raise UserError(f"{written} is one of your pictures; use another --out")
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    """The files below a folder whose suffix is that of a picture, sorted, without hidden ones."""
    known = {end for end, kind in Image.registered_extensions().items() if kind in READ}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in known and not hidden and not path.is_dir():
            yield path


def load(segmenter: Segmenter, keep_picture: bool, task: PictureTask) -> Loaded | Failed:
    """Decode and resize one picture; an error is returned, not raised."""
    try:
        picture = segmenter.decode(task.picture.read_bytes())
    except BadPictureError as error:
        return Failed(task, str(error))
    except OSError as error:
        return Failed(task, f"it can't be read: {error.strerror}")
    kept = picture if keep_picture else None
    return Loaded(task, segmenter.resized(picture), picture.shape[:2], kept)


def batches(
    loaded: Iterable[Loaded | Failed], batch_size: int, pixels: int
) -> Iterator[list[Loaded] | Failed]:
    """Batches of consecutive pictures of the same input size; failures are passed on in order.

    Args:
        loaded: what `load` returned.
        batch_size: the most pictures in a batch.
        pixels: the most in a batch of several pictures.
    """
    batch: list[Loaded] = []
    for item in loaded:
        if isinstance(item, Failed):
            yield item
            continue
        shape = item.resized.shape
        most = min(batch_size, max(1, pixels // (shape[0] * shape[1])))
        if batch and (batch[0].resized.shape != shape or len(batch) >= most):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
