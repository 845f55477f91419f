"""New: from a folder of labelled pictures to params.yaml. Not a stage; run by hand.

    python -m commands.new DATA

Looks at the folder, writes params.yaml with the variants of profiles/folder.yaml, puts the folder
under DVC, and removes the reports and the lock file of what the project held before. Says what it
found and what it took for granted.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from commands.arguments import command_line
from commands.new import annotations, contents, params
from commands.new.classes import Classes, classes
from commands.new.layout import MOST_NAMED, OPEN, Group, Layout, by_extension, layout, shown
from commands.new.splitting import Splitting, splitting
from commands.programs import require, run
from stages.prepare.settings import FEW, AnySource, FolderSource
from stages.prepare.sources import SOURCES, folder
from stages.prepare.sources.files.patterns import matched, partners
from stages.shared.runtime import packages
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import FEATURES_DIR, LOCK_FILE, REPORTS_DIR
from stages.shared.settings.mistakes import validate
from stages.shared.settings.reading import PARAMS_FILE

PROFILE = Path("profiles/folder.yaml")
BY_HAND = f"set it by hand, as {PROFILE} and docs/data.md explain"
# In reports/, what is of the project and not of its data.
KEPT = (".gitignore", "vega")
# Classes, and groups that are left out, that are shown one by one.
MOST_SHOWN = 12
# Masks of a group that are looked at for any class, and pictures of all for their size.
OF_NOTHING, MEASURED = 20, 200


def main() -> None:
    """Read the command line, look, write, and say what to do next.

    Raises:
        UserError: the folder has no pictures with masks or annotations, or the project has changes
            that Git does not have.
    """
    parser = command_line(__doc__)
    parser.add_argument(
        "data", type=Path, help="folder of the pictures and of their masks or annotations"
    )
    parser.add_argument("--force", action="store_true", help="also over changes not in Git")
    options = parser.parse_args()
    root = inside(options.data)
    if not options.force:
        require_committed()
    dataset, doubts = described(root)
    counts = pictures_of_splits(dataset)
    print(", ".join(f"{split}: {count:,} pictures" for split, count in counts.items()))
    if empty := [split for split, count in counts.items() if not count]:
        raise UserError(f"{root}/ has no pictures for {empty[0]}; {BY_HAND}")
    doubts += [
        f"{split} has {count} pictures: too few to measure anything"
        for split, count in counts.items()
        if count < FEW
    ]
    # First what may fail.
    track(root)
    title = f"Written by `make new DATA={root}`; {PROFILE} and docs/data.md explain the settings."
    profile = PROFILE.read_text(encoding="utf-8")
    text = params.written(profile, dataset, title, counts["train"])
    PARAMS_FILE.write_text(text, encoding="utf-8")
    forget()
    for doubt in doubts:
        print(f"look at: {doubt}")
    print(
        "new: params.yaml is written; look it over, then `dvc repro prepare` and "
        "reports/dataset/index.html, then `dvc repro`"
    )


def pictures_of_splits(dataset: dict[str, Any]) -> dict[str, int]:
    """How many pictures each split has, with this section `dataset`."""
    settings = validate(AnySource, dataset, ("dataset",), PARAMS_FILE)
    if isinstance(settings, FolderSource):
        _, parts = folder.found(settings, seed=0)
        return {split: sum(p.mask is not None for p in pairs) for split, pairs in parts.items()}
    examples = SOURCES[settings.source].examples(settings, seed=0)
    return {split: len(part) for split, part in examples.items()}


def inside(data: Path) -> Path:
    """The folder, relative to the project if it lies in it.

    Raises:
        UserError: it is no folder, or the project lies in it.
    """
    if not data.is_dir():
        raise UserError(f"{data} is not a folder; give the one that the pictures are in")
    path, project = data.resolve(), Path.cwd().resolve()
    if project.is_relative_to(path):
        raise UserError(
            f"{data} holds this project; give the folder of the labelled pictures alone"
        )
    if found := [out for out in outputs() if out.resolve().is_relative_to(path)]:
        raise UserError(
            f"{data} holds outputs of the pipeline, such as {found[0]}; give the folder of the "
            "labelled pictures alone, such as data/pictures"
        )
    return path.relative_to(project) if path.is_relative_to(project) else path


def require_committed() -> None:
    """Fail if Git does not have what is about to be written over.

    Raises:
        UserError: names it.
    """
    # Each run of a stage notes the packages of the machine.
    files = *map(str, (PARAMS_FILE, LOCK_FILE, REPORTS_DIR)), f":(exclude){packages.PACKAGES_FILE}"
    require("git")
    command = ["git", "status", "--porcelain", "--", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            "the project is in no Git repository, which would have what is removed; run again with "
            "--force (make new: FORCE=yes) to remove it nevertheless"
        )
    if done.stdout:
        changed = ", ".join(line[3:] for line in done.stdout.splitlines()[:3])
        raise UserError(
            f"Git does not have the changes of {changed}, which would be lost; commit them, or run "
            "again with --force (make new: FORCE=yes)"
        )


def described(root: Path) -> tuple[dict[str, Any], list[str]]:
    """The section `dataset` for a folder, and what should be looked at.

    Raises:
        UserError: it holds no pictures with masks or annotations, or broken ones.
    """
    named = by_extension(root)
    try:
        found = layout(root, named)
    except UserError:
        if (drawn := annotations.found(root, named)) is None:
            raise
        dataset, doubts, pictures = annotations.described(root, drawn, named)
    else:
        dataset, doubts, pictures = of_masks(root, found)
    taken = contents.sample([root / picture for picture in pictures], MEASURED)
    sizes = list(contents.sizes(taken))
    size, fit = params.image_size(sizes)
    print(f"image_size: {size}, fit: {fit}")
    bad_pictures = dataset.pop("bad_pictures", "stop")
    if greys := contents.greys(taken):
        dataset["greys"] = greys
        doubts.append(
            f"the pictures have more than 8 bits: greys {greys} are the darkest and the brightest "
            f"values of {len(taken)} of them, without a few; the instrument's own range is better"
        )
    if (times := params.shrunk(sizes, size, fit)) > params.FAR_SMALLER:
        doubts.append(
            f"the pictures become {times:.2g} times smaller; if objects in them are small, "
            "fit: tiles keeps the scale (docs/data.md, Pictures larger than the network's)"
        )
    dataset |= {"image_size": size, "fit": fit, "shard_size": 512, "bad_pictures": bad_pictures}
    return dataset, doubts


def of_masks(root: Path, found: Layout) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is in params.yaml of pictures with masks, what should be looked at, and the pictures."""
    masks = [mask for _, mask in found.pairs]
    values = contents.values([root / mask for mask in masks], found.kind)
    named = classes(root, masks, found.kind, values)
    if len(set(named.names.values())) < 2:
        only = ", ".join(map(str, values.pixels))
        raise UserError(
            f"the masks in {root}/ hold nothing but {only}, and there should be two classes; are "
            "these files the masks?"
        )
    hollow = [pair for pair in found.family if of_nothing(root, pair[1], named)]
    # Where objects are rare, those that were looked at may have none.
    if len(hollow) == len(found.family):
        hollow = []
    found = found.without(hollow)
    pairs = found.pairs
    split = splitting(root, pairs)
    patterns, spare = chosen_patterns(root, found, 2 * len(pairs))
    if split.settings["by"] == "list":
        spare = 0
    print(f"{root}/: {len(pairs):,} pictures with masks")
    say(found, patterns, values, named, split)
    dataset: dict[str, Any] = {
        "source": "folder",
        "root": root.as_posix(),
        **dict(zip(("pictures", "masks"), patterns, strict=True)),
        "splits": split.settings,
        "classes": named.names,
        "ignore": named.ignore,
        "bad_pictures": "skip" if spare else "stop",
    }
    doubts = [*filter(None, [split.doubt]), *named.doubts]
    doubts += [f"the masks in {masks.folder}/ hold no class; it is left out" for _, masks in hollow]
    doubts += [f"{mask} does not decode" for mask in values.broken[:3]]
    if spare:
        doubts.append(
            f"{spare:,} files that the patterns find have no partner, and are left out "
            "(bad_pictures: skip)"
        )
    if values.read < values.of:
        doubts.append(f"{values.read:,} of {values.of:,} masks were read for their classes")
    return dataset, doubts, [picture for picture, _ in pairs]


def chosen_patterns(root: Path, found: Layout, files: int) -> tuple[tuple[str, str], int]:
    """The patterns, and how many files they find beside those of the pairs: as few as can be.

    Those come first that leave folders open, so that they find the pictures of tomorrow's, too.

    Raises:
        UserError: no patterns find the pairs.
    """
    fitting: list[tuple[tuple[str, str], int]] = []
    reason = f"no pattern finds the pictures and masks in {root}/ apart"
    for most_named in (OPEN, MOST_NAMED, len(found.family)):
        patterns = found.patterns(most_named)
        try:
            files_of = matched(root, *patterns)
            if most_named == OPEN and partners(*patterns, *files_of) != dict(found.pairs):
                continue
        except UserError as error:
            reason = str(error)
            continue
        spare = sum(map(len, files_of)) - files
        if spare >= 0:
            fitting.append((patterns, spare))
        if spare == 0:
            break
    if not fitting:
        raise UserError(f"{reason}; {BY_HAND}")
    return min(fitting, key=lambda trial: trial[1])


def of_nothing(root: Path, masks: Group, named: Classes) -> bool:
    """Whether nothing but what is ignored stands in some of the masks of a group: where a
    benchmark keeps those of its test pictures to itself."""
    if masks.kind is not contents.Kind.LABELS:
        return False
    taken = contents.sample([root / file for file in masks.files.values()], OF_NOTHING)
    return contents.values(taken, masks.kind).pixels.keys() <= set(named.ignore)


def say(
    found: Layout,
    patterns: tuple[str, str],
    values: contents.Values,
    named: Classes,
    split: Splitting,
) -> None:
    """What was found, line by line."""
    pictures, masks = patterns
    print(f"pictures: {pictures}")
    print(f"masks: {masks} ({found.kind.value})")
    for group in found.left[:MOST_SHOWN]:
        print(f"left out: {shown(group)}")
    if len(found.left) > MOST_SHOWN:
        print(f"left out: {len(found.left) - MOST_SHOWN} more groups of images")
    print(f"classes: {len(set(named.names.values()))}, {named.said}")
    total = sum(values.pixels.values())
    for label, pixels in list(values.pixels.items())[:MOST_SHOWN]:
        value = f"#{label:06x}" if found.kind is contents.Kind.COLOURS else label
        name = named.names.get(value, "ignored")
        print(
            f"  {value}: {name}, {pixels / total:.2%} of the pixels, in "
            f"{values.masks[label]:,} masks"
        )
    if len(values.pixels) > MOST_SHOWN:
        print(f"  and {len(values.pixels) - MOST_SHOWN} more")
    print(f"splits: {split.said}")


def outputs() -> list[Path]:
    """What the stages have written, by dvc.lock."""
    if not LOCK_FILE.exists():
        return []
    stages = yaml.safe_load(LOCK_FILE.read_text(encoding="utf-8")).get("stages") or {}
    return [Path(out["path"]) for stage in stages.values() for out in stage.get("outs", [])]


def forget() -> None:
    """Remove the outputs of what the project held before, its reports and its lock file; Git has
    them, and DVC's cache what Git has not."""
    reports = (path for path in REPORTS_DIR.glob("*") if path.name not in KEPT)
    # A backbone has several outs in a folder that is none.
    for path in (*outputs(), *FEATURES_DIR.glob("*/"), *reports):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    LOCK_FILE.unlink(missing_ok=True)


def track(root: Path) -> None:
    """Put the folder under DVC, if it lies in the project."""
    if root.is_absolute():
        print(f"note: {root} lies outside of the project: DVC watches it, and does not store it")
    else:
        run("dvc", "add", root.as_posix())
        print(f"dvc: {root}.dvc tracks the folder; commit it with params.yaml")
