"""Stage `prepare`: pictures and masks from a data source to sharded TFRecord files.

    source -> decode, name labels, fit (all cores) -> data/records/*.tfrecord, data/dataset.json,
                                                      reports/dataset/

Memory holds a window of pictures, never a split. The order is the source's, so the same input
gives the same bytes on any number of cores. A shard is made from `shard_size` examples and nothing
else; those that an interrupted run has finished are not made again.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from operator import length_hint
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.shared import dataset_page, errors, manifest, outputs, params, pictures, records
from stages.shared.dataset import DATASET_FILE, IGNORED, Dataset, LeftOut, Shard, pixel_share
from stages.shared.dataset_page import PAGE_DIR
from stages.shared.dataset_params import AnyDataset
from stages.shared.errors import UserError
from stages.shared.facts import Facts
from stages.shared.ordered_map import ordered_map
from stages.shared.outputs import Part, Staging
from stages.shared.pictures import BadPictureError, Example, Labels
from stages.shared.records import RECORDS_DIR, Record
from stages.shared.schema import SPLITS
from stages.shared.sources import SOURCES


class Prepared(NamedTuple):
    """A record, and what is known of the picture that it was made from."""

    record: Record
    facts: Facts


class PreparedShard(Part):
    """A finished shard.

    Attributes:
        pixels: of each class in its masks.
        facts: of its pictures.
        left_out: the examples that could not be used.
    """

    pixels: list[int]
    facts: list[Facts]
    left_out: list[LeftOut]


class Preparation:
    """Makes shards of records from a source's examples.

    Args:
        settings: the data set.
        labels: what stands in its masks.
        staging: of the records.
    """

    def __init__(self, settings: AnyDataset, labels: Labels, staging: Staging) -> None:
        self.settings, self.labels, self.staging = settings, labels, staging
        self.folder = staging.folder(RECORDS_DIR)

    def shards(self, examples: Iterable[Example], split: str) -> Iterator[PreparedShard]:
        """Make the shards of a split, in order; one of which nothing could be used has no file.

        Raises:
            UserError: an example can't be used, and `dataset.bad_pictures` is `stop`.
        """
        with tqdm(desc=f"prepare {split}", unit="picture") as progress:
            for number, chosen in enumerate(chunks(examples, self.settings.shard_size)):
                name = f"{split}-{number:05d}"
                make = partial(self._shard, f"{name}.tfrecord", chosen, split)
                yield self.staging.part(name, PreparedShard, make)
                progress.update(len(chosen))

    def _shard(self, file: str, examples: list[Example], split: str) -> PreparedShard:
        """Write one shard."""
        facts: list[Facts] = []
        left_out: list[LeftOut] = []
        pixels = np.zeros(len(self.labels.classes), np.int64)

        def usable() -> Iterator[Record]:
            for name, result in ordered_map(lambda e: (e.name, self._prepared(e, split)), examples):
                if isinstance(result, Prepared):
                    facts.append(result.facts)
                    counted = result.record.mask[result.record.mask != IGNORED]
                    pixels[:] += np.bincount(counted, minlength=len(pixels))
                    yield result.record
                elif self.settings.bad_pictures == "skip":
                    left_out.append(LeftOut(split=split, name=name, reason=str(result)))
                else:
                    raise UserError(
                        f"{name} (split {split}): {result}; to leave such pictures out, set "
                        "dataset.bad_pictures to skip"
                    )

        path = self.folder / file
        records.write(path, usable())
        if not facts:
            path.unlink()
        return PreparedShard(
            files={file: manifest.digest(path)} if facts else {},
            pixels=pixels.tolist(),
            facts=facts,
            left_out=left_out,
        )

    def _prepared(self, example: Example, split: str) -> Prepared | BadPictureError:
        """Decode and fit one example; what is wrong with it is returned, not raised."""
        try:
            image, labels = example.decode()
            mask = self.labels.indices(labels)
        except BadPictureError as error:
            return (
                BadPictureError(f"{error} (its mask is {example.mask})") if example.mask else error
            )
        fitted = pictures.fit(image, mask, self.settings.image_size, self.settings.fit)
        facts = Facts(
            name=example.name,
            split=split,
            size=mask.shape,
            digest=hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest(),
            classes=sorted(set(np.unique(fitted[1]).tolist()) - {IGNORED}),
        )
        return Prepared(Record(example.name, *fitted), facts)


def prepare() -> None:
    """Write the records of all splits, dataset.json and the data set's page.

    Raises:
        UserError: the source is not to be had, a split is empty, or a picture can't be used and
            `dataset.bad_pictures` is `stop`.
    """
    settings, seed = params.read("dataset"), params.read("seed")
    source = SOURCES[settings.source]
    labels = source.labels(settings)
    examples = source.examples(settings, seed)
    made_from = outputs.origin(settings, seed, labels.classes, state_of(source.files(settings)))

    outs = (RECORDS_DIR, DATASET_FILE, PAGE_DIR)
    # TFDS does not say how many there are.
    need = records.size(sum(map(length_hint, examples.values())), settings.image_size)
    with outputs.writing(*outs, made_from=made_from, need=need) as staging:
        preparation = Preparation(settings, labels, staging)
        shards = {split: list(preparation.shards(examples[split], split)) for split in SPLITS}
        require_pictures(shards, settings)
        dataset = describe(settings, labels.classes, shards)
        dataset.write(staging.file(DATASET_FILE))
        facts = [fact for split in SPLITS for shard in shards[split] for fact in shard.facts]
        dataset_page.write(dataset, facts, preparation.folder, staging.folder(PAGE_DIR))


def chunks(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Neighbouring examples, `size` at a time; the last may be fewer."""
    remaining = iter(examples)
    while chosen := list(islice(remaining, size)):
        yield chosen


def state_of(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of the last change of each file: what tells that none has changed."""
    return sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file())


def require_pictures(shards: dict[str, list[PreparedShard]], settings: AnyDataset) -> None:
    """Fail on a split of which no picture can be used.

    Raises:
        UserError: names the split, and why its first picture can't be used.
    """
    for split in SPLITS:
        if any(shard.files for shard in shards[split]):
            continue
        unusable = [left for shard in shards[split] for left in shard.left_out]
        first = f"; {unusable[0].name}: {unusable[0].reason}" if unusable else ""
        raise UserError(
            f"params.yaml: dataset.splits.{split} is {getattr(settings.splits, split)!r}, "
            f"which leaves no picture ({len(unusable)} could not be used{first})"
        )


def describe(
    settings: AnyDataset, classes: list[str], shards: dict[str, list[PreparedShard]]
) -> Dataset:
    """What dataset.json says of these shards."""
    counts = {split: np.sum([s.pixels for s in shards[split]], axis=0) for split in SPLITS}
    return Dataset(
        source=settings.model_dump(mode="json", exclude={"root", "data_dir", "manual_dir"}),
        image_size=settings.image_size,
        fit=settings.fit,
        classes=classes,
        pixel_share={split: pixel_share(counts[split], classes) for split in SPLITS},
        shards={
            split: [
                Shard(file=file, pictures=len(shard.facts), digest=digest)
                for shard in shards[split]
                for file, digest in shard.files.items()
            ]
            for split in SPLITS
        },
        left_out=[left for split in SPLITS for shard in shards[split] for left in shard.left_out],
    )


if __name__ == "__main__":
    errors.run_stage(prepare)
