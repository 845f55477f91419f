"""Stage `prepare`: pictures and masks from a data source to sharded TFRecord files.

    source -> decode, name labels, fit (all cores) -> data/records/*.tfrecord, data/dataset.json,
                                                      reports/dataset/

Memory holds a window of pictures, or of TFDS's some shards of encoded ones, never a split. The
order is the source's, so the same input gives the same bytes on any number of cores. A shard is
made from its examples and nothing else; those that an interrupted run has finished are not made
again.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from operator import length_hint
from pathlib import Path

import numpy as np

from stages.prepare import page
from stages.prepare.decoding import Example, Labels
from stages.prepare.page import PAGE_DIR
from stages.prepare.settings import AnySource, told
from stages.prepare.shard import (
    PreparedShard,
    fitted_size,
    most_records,
    prepare_shard,
    tiling,
)
from stages.prepare.sources import SOURCES
from stages.shared.engines import choice, engine
from stages.shared.engines.engine import ShardTask
from stages.shared.engines.local import Processes
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.records.shards import bytes_of
from stages.shared.runtime import outputs
from stages.shared.runtime.console import bar, size
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import shared_cores
from stages.shared.runtime.paths import DATASET_FILE, RECORDS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import SPLITS, Seed

# Fewer pictures are decoded before processes have started.
WORTH_PROCESSES = 1000
IMPORTS = ("stages.prepare.shard", "stages.prepare.sources")
# How many tiles a picture is taken for when shards are made up.
TILES_OF_A_PICTURE = 16


def prepare() -> str:
    """Write the records of all splits, dataset.json and the data set's page.

    Raises:
        UserError: the source is not available, a split is empty, or a picture can't be used and
            `dataset.bad_pictures` is `stop`.
    """
    settings, seed = read("dataset", AnySource), read("seed", Seed)
    source = SOURCES[settings.source]
    labels = source.labels(settings)
    examples = source.examples(settings, seed)
    made_from = outputs.origin(settings, seed, labels.classes, state_of(source.files(settings)))

    outs = (RECORDS_DIR, DATASET_FILE, PAGE_DIR)
    # At least; nobody knows how many tiles there will be.
    need = bytes_of(sum(map(length_hint, examples.values())), settings.image_size)
    with (
        outputs.writing(*outs, made_from=made_from, need=need) as staging,
        choice.running(*at_once(settings, examples)) as chosen,
    ):
        records_folder = staging.folder(RECORDS_DIR)
        shards: dict[str, list[PreparedShard]] = {split: [] for split in SPLITS}
        with bar("prepare", sum(map(length_hint, examples.values())) or None) as progress:
            # All splits in one row, so that no core waits at the end of each.
            todo = chain(*(tasks(settings, labels, split, examples[split]) for split in SPLITS))
            for shard in engine.parts(
                todo, PreparedShard, chosen, staging, records_folder, progress.update
            ):
                shards[shard.split].append(shard)
        require_pictures(shards, settings)
        dataset = describe(settings, labels.classes, shards)
        dataset.write(staging.file(DATASET_FILE))
        facts = [fact for split in SPLITS for shard in shards[split] for fact in shard.facts]
        page.write(dataset, facts, records_folder, staging.folder(PAGE_DIR))
    counts = ", ".join(f"{dataset.pictures(split):,} {split}" for split in SPLITS)
    height, width = dataset.image_size
    tiles = f"in {sum(map(dataset.records, SPLITS)):,} tiles " if dataset.tiling else ""
    return f"prepare: {counts} pictures {tiles}of {width} x {height}, {size(RECORDS_DIR)}"


def at_once(
    settings: AnySource, examples: Mapping[str, Iterable[Example]]
) -> tuple[int, Processes | None]:
    """How many shards are made at the same time on this machine, and in which processes."""
    cores, most = shared_cores(), examples_of_a_shard(settings)
    lengths = [length_hint(part) for part in examples.values()]
    shards = min(cores, sum(math.ceil(length / most) for length in lengths))
    if shards <= 1 or sum(lengths) < WORTH_PROCESSES:
        return 1, None
    return shards, Processes(IMPORTS, cores // shards)


def tasks(
    settings: AnySource, labels: Labels, split: str, examples: Iterable[Example]
) -> Iterator[ShardTask[PreparedShard]]:
    """A task for each `examples_of_a_shard` of a split, in order."""
    for number, chosen in enumerate(chunks(examples, examples_of_a_shard(settings))):
        name = f"{split}-{number:05d}"
        make = partial(prepare_shard, settings, labels, split, name, chosen)
        yield ShardTask(name, len(chosen), make, sum(example.carries for example in chosen))


def examples_of_a_shard(settings: AnySource) -> int:
    """As many as a file has records; with tiles, as fill one if a picture has so many."""
    most = most_records(settings)
    return max(1, most // TILES_OF_A_PICTURE) if tiling(settings) else most


def chunks(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Neighbouring examples, `size` at a time; the last may be fewer."""
    remaining = iter(examples)
    while chosen := list(islice(remaining, size)):
        yield chosen


def state_of(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path (in hexadecimal), size and time of each file; the same if no file has changed."""
    found = [(os.fsencode(f).hex(), f.stat()) for f in files if f.is_file()]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def require_pictures(shards: dict[str, list[PreparedShard]], settings: AnySource) -> None:
    """Fail on a split of which no picture can be used, or no pixel counts.

    Raises:
        UserError: names the split, and why its first picture can't be used.
    """
    for split in SPLITS:
        about = told(settings, split)
        if any(shard.files for shard in shards[split]):
            if not any(any(shard.pixels) for shard in shards[split]):
                raise UserError(
                    f"{about}, whose masks have ignored labels alone; take pictures whose masks "
                    "are known"
                )
            continue
        unusable = [left for shard in shards[split] for left in shard.left_out]
        about += ", which leaves no picture"
        if unusable:
            name, reason = unusable[0].name, unusable[0].reason
            about += f" that can be used, of {len(unusable)}; {name}: {reason}"
        raise UserError(about)


def describe(
    settings: AnySource, classes: list[str], shards: dict[str, list[PreparedShard]]
) -> Dataset:
    """The content of dataset.json for these shards."""
    counts = {split: np.sum([s.pixels for s in shards[split]], axis=0) for split in SPLITS}
    how, elsewhere = tiling(settings), {"root", "data_dir", "manual_dir"}
    sizes = {
        split: [fitted_size(fact.size, settings) for shard in shards[split] for fact in shard.facts]
        for split in SPLITS
    }
    return Dataset(
        source=settings.model_dump(mode="json", exclude=elsewhere, exclude_none=True),
        image_size=settings.image_size,
        fit=settings.fit,
        tiling=how,
        sizes=sizes if how else {},
        classes=classes,
        pixels={s: dict(zip(classes, counts[s].tolist(), strict=True)) for s in SPLITS},
        shards={
            split: [
                Shard(file=file, pictures=shard.records[file], digest=digest)
                for shard in shards[split]
                for file, digest in shard.files.items()
            ]
            for split in SPLITS
        },
        left_out=[left for split in SPLITS for shard in shards[split] for left in shard.left_out],
    )
