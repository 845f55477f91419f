"""Predict: class maps of unlabelled pictures. Not a stage of dvc.yaml; run by hand.

    python -m commands.predict [--variant fcn8s] --out DIR PICTURE_OR_FOLDER...

For each picture DIR gets a palette PNG of the picture's own size, and shares.csv a row. With
several variants DIR has a folder for each; without --variant it is the one with the best mean IoU.
"""

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from commands.arguments import command_line, count
from commands.predict.inputs import Failed, Loaded, PictureTask, batches, load, tasks
from commands.predict.masks import TABLE, Masks, remove_former
from commands.predict.segmenter import TILE, Segmenter, Views, together
from commands.trained import note_untrained, trained_variants
from stages.evaluate.settings import LARGEST_SCALE
from stages.shared.formats.pictures import Size
from stages.shared.formats.predictions import SUMMARY_FILE, Summary
from stages.shared.results.averaged import averages
from stages.shared.results.variants import variant_names
from stages.shared.runtime.console import bar, listed
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.runtime.paths import EVALUATION_DIR

BATCH_SIZE = 16
# Times as large as in training, beyond which a network seldom knows an object again.
FAR_SCALE = 2.0


def predict(arguments: argparse.Namespace) -> int:
    """Segment pictures.

    Returns:
        How many could not be used; each is named on stderr.

    Raises:
        UserError: there is no such variant, file or folder, a picture would be overwritten, or the
            folder has the masks of an earlier run.
    """
    variants: list[str] = list(dict.fromkeys(arguments.variant or [best_variant()]))
    out: Path = arguments.out
    folders = {v: out if len(variants) == 1 else out / v for v in variants}
    found = tasks(arguments.pictures, out, list(folders.values()))
    # An earlier run may have had one variant or several.
    former = [f for f in (out, *(out / v for v in trained_variants())) if (f / TABLE).exists()]
    if former and not arguments.replace:
        raise UserError(
            f"{former[0]}/ has the masks of an earlier run; use another --out, or --replace (make "
            f"predict: REPLACE=yes), which removes those that {former[0] / TABLE} names"
        )
    views = Views(arguments.scale, arguments.flip, arguments.scales, arguments.tile)
    segmenters = together(variants, views)
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


def best_variant() -> str:
    """The trained variant of params.yaml with the best mean IoU.

    Raises:
        UserError: none is evaluated, or an evaluation is damaged or of another split.
    """
    trained = set(trained_variants())
    measured = [n for n in variant_names() if (EVALUATION_DIR / n / SUMMARY_FILE).exists()]
    note_untrained(measured)
    found = {name: Summary.load(name) for name in measured if name in trained}
    if not found:
        raise UserError("no variant is evaluated yet; `dvc repro` does it, or name a --variant")
    if len({(summary.split, summary.records) for summary in found.values()}) > 1:
        raise UserError(
            "the variants were measured on different records or splits; `dvc repro` measures them "
            "again, or name a --variant"
        )
    best = max(found, key=lambda name: found[name].mean_iou)
    print(f"{best}, a mean IoU of {found[best].mean_iou:.1%}; --variant takes another")
    return best


def segment(
    segmenters: list[Segmenter],
    found: list[PictureTask],
    folders: Mapping[str, Path],
    arguments: argparse.Namespace,
) -> int:
    """Write the masks and tables of some pictures, by variant; how many could not be used."""
    first, failed = segmenters[0], 0
    # By the kind of a doubt, the pictures that it holds for.
    doubtful = defaultdict[str, list[Path]](list)
    # The logits of all heads lie in memory together.
    pixels = min(s.pieces.pixels // len(s.variants) for s in segmenters)
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
                if kind not in doubtful:
                    progress.write(f"note: {sentence}", file=sys.stderr)
                doubtful[kind] += [picture.task.picture for picture in batch]
            inputs = np.stack([picture.resized for picture in batch])
            for segmenter in segmenters:
                found_masks = segmenter.class_maps(inputs, [picture.size for picture in batch])
                for picture, masks in zip(batch, found_masks, strict=True):
                    for variant, mask in masks.items():
                        outputs[variant].add(picture, mask)
            progress.update(len(batch))
    for one, *others in doubtful.values():
        if others:
            named = listed([str(other) for other in others])
            print(f"note: the same holds as for {one} for {named}", file=sys.stderr)
    return failed


def doubts(
    segmenters: list[Segmenter], arguments: argparse.Namespace, loaded: Loaded
) -> dict[str, str]:
    """What may be wrong with the mask of a picture: a sentence, by its kind."""
    found, picture = {}, loaded.task.picture
    times, cut_from = segmenters[0].enlarged(loaded.size), segmenters[0].head.cut_from
    if cut_from:
        seen = loaded.resized.shape[:2]
        if unlike(seen, cut_from):
            sizes = [f"{width} x {height}" for height, width in (seen, *cut_from)]
            found["size"] = (
                f"{picture} is seen at {sizes[0]} pixels, those in training at {sizes[1]} to "
                f"{sizes[2]}; if its objects are smaller or larger than theirs, another --scale "
                "makes them alike"
            )
    elif arguments.scale is not None and not 1 / FAR_SCALE <= times <= FAR_SCALE:
        found["scale"] = (
            f"at --scale {arguments.scale:g} {picture} is {times:.2g} times as large as the "
            "pictures in training; without --scale it is resized as they were"
        )
    for segmenter in segmenters:
        if not segmenter.pieces.exact and not segmenter.pieces.whole(loaded.resized.shape[:2]):
            names = ", ".join(segmenter.variants)
            several = averages(segmenter.views.flip, segmenter.views.scales)
            why = "flips or scales are averaged" if several else "more than a tile may be looked at"
            found[f"tiles of {names}"] = (
                f"{names}: {why}, so the tiles of {picture} overlap and are blended, and the mask "
                "is not quite that of the picture in one piece; a larger --tile avoids it"
            )
    return found


def unlike(size: Size, range_of: tuple[Size, Size]) -> bool:
    """Whether a picture is far smaller than the smallest of some, or larger than the largest."""
    side, least, most = (math.sqrt(math.prod(each)) for each in (size, *range_of))
    return not least / FAR_SCALE <= side <= most * FAR_SCALE


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
    made = command_line(__doc__)
    made.add_argument(
        "--variant",
        action="append",
        default=[],
        help="a trained variant, such as fcn8s (the default has the best mean IoU); can be "
        "repeated: a frozen backbone runs once for all of its variants",
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
        help="largest side in pixels that the network processes at once (with fit: tiles, as in "
        f"training, else {TILE})",
    )
    made.add_argument(
        "--batch-size", type=count, default=BATCH_SIZE, help=f"pictures at once ({BATCH_SIZE})"
    )
    made.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE_OR_FOLDER")
    return made


def main() -> int:
    """Run the command; the exit code says whether every picture could be used."""
    return 1 if predict(parser().parse_args()) else 0
