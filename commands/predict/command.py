"""Predict: class maps of unlabelled pictures. Not a stage of dvc.yaml; run by hand.

    python -m commands.predict --variant fcn8s --out DIR PICTURE_OR_FOLDER...

For each picture DIR gets a palette PNG of the picture's own size, and shares.csv a row. With
several variants DIR has a folder for each.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from commands.arguments import count
from commands.predict.segmenter import TILE, Segmenter, Views, together, trained_variants
from stages.evaluate.settings import LARGEST_SCALE
from stages.shared.formats.pictures import BadPictureError, Size, decode_picture
from stages.shared.results.overlay import colours, hex_colours, overlay
from stages.shared.runtime.console import bar
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map

BATCH_SIZE = 16
# The table of all pictures, and its columns ahead of the classes'.
TABLE = "shares.csv"
COLUMNS = ("picture", "mask", "overlay", "width", "height")
# Times as large as in training, beyond which a network seldom knows an object again.
FAR_SCALE = 2.0
OPACITY = 0.5
JPEG_QUALITY = 90


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


def predict(arguments: argparse.Namespace) -> int:
    """Segment pictures.

    Returns:
        How many could not be used; each is named on stderr.

    Raises:
        UserError: there is no such variant, file or folder, a picture would be overwritten, or the
            folder has the masks of an earlier run.
    """
    variants: list[str] = list(dict.fromkeys(arguments.variant))
    out: Path = arguments.out
    folders = {v: out if len(variants) == 1 else out / v for v in variants}
    found = tasks(arguments.pictures, out, list(folders.values()))
    views = Views(arguments.scale, arguments.flip, arguments.scales, arguments.tile)
    segmenters = together(variants, views)
    # An earlier run may have had one variant or several.
    former = [f for f in (out, *(out / v for v in trained_variants())) if (f / TABLE).exists()]
    if former and not arguments.replace:
        raise UserError(
            f"{former[0]}/ has the masks of an earlier run; use another --out, or --replace, which "
            f"removes those that {former[0] / TABLE} names"
        )
    for folder in former:
        remove_former(folder)
    try:
        failed = segment(segmenters, found, folders, arguments)
    except OSError as error:
        # Pictures that can't be read are reported one by one, so this error comes from writing.
        raise UserError(
            f"{error.filename or arguments.out} can't be written: {error.strerror}; use another "
            "--out"
        ) from None
    print(f"{len(found) - failed:,} of {len(found):,} pictures segmented, in {arguments.out}/")
    return failed


class Masks:
    """The masks of a variant and their table, in a folder."""

    def __init__(self, folder: Path, classes: list[str], stack: ExitStack) -> None:
        self.folder, self.classes = folder, classes
        folder.mkdir(parents=True, exist_ok=True)
        write_classes(folder / "classes.csv", classes)
        table = (folder / TABLE).open("w", newline="", encoding="utf-8")
        self.file = stack.enter_context(table)
        self.table = csv.writer(self.file, lineterminator="\n")
        self.table.writerow([*COLUMNS, *classes])

    def add(self, picture: Loaded, mask: np.ndarray) -> None:
        """Write a picture's mask, and its row of the table."""
        write(self.folder, picture, mask, len(self.classes))
        shares = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
        target = picture.task.target
        written = f"{target}.png", "" if picture.picture is None else f"{target}.overlay.jpg"
        row = [picture.task.picture, *written, *mask.shape[::-1], *shares.round(6)]
        self.table.writerow(row)
        self.file.flush()


def segment(
    segmenters: list[Segmenter],
    found: list[PictureTask],
    folders: Mapping[str, Path],
    arguments: argparse.Namespace,
) -> int:
    """Write the masks and tables of some pictures, by variant; how many could not be used."""
    first, failed, told = segmenters[0], 0, set[str]()
    # The logits of all heads lie in memory together.
    pixels = min(segmenter.tile**2 // len(segmenter.variants) for segmenter in segmenters)
    with ExitStack() as stack, bar("predict", len(found)) as progress:
        outputs = {
            variant: Masks(folder, first.classes, stack) for variant, folder in folders.items()
        }
        loaded = ordered_map(partial(load, first, arguments.overlays), found, ahead=1)
        for batch in batches(loaded, arguments.batch_size, pixels):
            if isinstance(batch, Failed):
                failed += 1
                progress.write(f"error: {batch.task.picture}: {batch.reason}", file=sys.stderr)
                progress.update()
                continue
            for kind, sentence in doubts(segmenters, arguments, batch[0]).items():
                if kind not in told:
                    told.add(kind)
                    progress.write(f"note: {sentence}", file=sys.stderr)
            inputs = np.stack([picture.resized for picture in batch])
            for segmenter in segmenters:
                found_masks = segmenter.class_maps(inputs, [picture.size for picture in batch])
                for picture, masks in zip(batch, found_masks, strict=True):
                    for variant, mask in masks.items():
                        outputs[variant].add(picture, mask)
            progress.update(len(batch))
    return failed


def doubts(
    segmenters: list[Segmenter], arguments: argparse.Namespace, loaded: Loaded
) -> dict[str, str]:
    """What may be wrong with the mask of a picture: a sentence, by its kind."""
    found, picture = {}, loaded.task.picture
    times = segmenters[0].enlarged(loaded.size)
    if arguments.scale is not None and not 1 / FAR_SCALE <= times <= FAR_SCALE:
        found["scale"] = (
            f"at --scale {arguments.scale:g} {picture} is {times:.2g} times as large as the "
            "pictures in training; without --scale it is resized as they were"
        )
    for segmenter in segmenters:
        if not segmenter.exact and max(loaded.resized.shape) > segmenter.tile:
            names = ", ".join(segmenter.variants)
            found[f"tiles of {names}"] = (
                f"{names}: a tile of {picture} may be smaller than what is looked at, so its tiles "
                "overlap and are blended, and the mask is not quite that of the picture in one "
                "piece; a larger --tile avoids it"
            )
    return found


def remove_former(out: Path) -> None:
    """Remove the table in a folder, and what it says that an earlier run has written there."""
    table = out / TABLE
    # A spreadsheet may have saved it in another encoding.
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file))
    if rows and tuple(rows[0][: len(COLUMNS)]) == COLUMNS:
        for written in (out / name for row in rows[1:] for name in row[1:3] if name):
            if written.resolve().is_relative_to(out.resolve()):
                written.unlink(missing_ok=True)
    table.unlink()


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
            pictures = [p for p in _pictures(path) if not p.resolve().is_relative_to(own)]
            if not pictures:
                raise UserError(f"{path}/ has no picture that Pillow can read")
            found += [PictureTask(p, p.relative_to(path)) for p in pictures]
        elif path.exists():
            found.append(PictureTask(path, Path(path.name)))
        else:
            raise UserError(f"{path} does not exist")
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
    """The files below a folder whose suffix Pillow knows, sorted, without hidden ones."""
    known = Image.registered_extensions()
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in known and not hidden and not path.is_dir():
            yield path


def load(segmenter: Segmenter, keep_picture: bool, task: PictureTask) -> Loaded | Failed:
    """Decode and resize one picture; an error is returned, not raised."""
    try:
        picture = decode_picture(task.picture.read_bytes())
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


def write(out: Path, picture: Loaded, mask: np.ndarray, classes: int) -> None:
    """Write a picture's mask, and its overlay if its pixels were kept."""
    target = out / picture.task.target
    target.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask, "P")
    image.putpalette(colours(classes).tobytes())
    _save(image, Path(f"{target}.png"), "PNG")
    if picture.picture is not None:
        shown = overlay(picture.picture, mask, classes, OPACITY)
        _save(Image.fromarray(shown), Path(f"{target}.overlay.jpg"), "JPEG", quality=JPEG_QUALITY)


def _save(image: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Write a picture atomically."""
    beside = path.with_name(f"{path.name}.new")
    image.save(beside, kind, **options)
    beside.replace(path)


def write_classes(path: Path, classes: list[str]) -> None:
    """Write classes.csv: what the values and colours of the masks stand for."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["value", "class", "colour"])
        for value, named in enumerate(zip(classes, hex_colours(len(classes)), strict=True)):
            writer.writerow([value, *named])


def _number(text: str, what: str = "no") -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is {what} number above 0")
    return scale


def _scales(text: str) -> list[float]:
    found = [_number(scale) for scale in text.split(",")]
    if max(found) > LARGEST_SCALE:
        raise argparse.ArgumentTypeError(f"{max(found):g} is above {LARGEST_SCALE}")
    return found


def _scale(text: str) -> float | None:
    return None if text == "trained" else _number(text, "neither `trained` nor a")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m commands.predict", description=__doc__.split("\n")[0]
    )
    made.add_argument(
        "--variant",
        required=True,
        action="append",
        help="a trained variant, such as fcn8s; can be repeated: a frozen backbone runs once for "
        "all of its variants",
    )
    made.add_argument("--out", required=True, type=Path, help="folder for the masks")
    made.add_argument(
        "--replace",
        action="store_true",
        help="remove what an earlier run has written to --out, by its shares.csv",
    )
    made.add_argument("--overlays", action="store_true", help="also write overlays of the masks")
    made.add_argument(
        "--scale",
        type=_scale,
        default="trained",
        help="scale of the pictures: `trained` (the default) resizes them as in training; 1 keeps "
        "their resolution",
    )
    made.add_argument(
        "--flip",
        action="store_true",
        help="see each picture also flipped; takes twice the time, and the mean counts",
    )
    made.add_argument(
        "--scales",
        type=_scales,
        default=[1.0],
        help="see each picture at several scales, such as 0.75,1,1.25; the mean counts",
    )
    made.add_argument(
        "--tile",
        type=count,
        default=TILE,
        help=f"largest side in pixels that the network processes at once ({TILE})",
    )
    made.add_argument(
        "--batch-size", type=count, default=BATCH_SIZE, help=f"pictures at once ({BATCH_SIZE})"
    )
    made.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_FOLDER")
    return made


def main() -> int:
    """Run the command; the exit code says whether every picture could be used."""
    return 1 if predict(parser().parse_args()) else 0
