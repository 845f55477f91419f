"""Stage `prepare`: pictures and masks from a data source to sharded TFRecord files.

    source -> decode, name labels, fit (all cores) -> data/records/*.tfrecord, data/dataset.json,
                                                      reports/dataset/

Memory holds a window of pictures, never a split. The order is the source's, so the same input
gives the same bytes on any number of cores.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.shared import dataset_page, errors, outputs, params, pictures, records
from stages.shared.dataset import IGNORED, Dataset, LeftOut, Shard, pixel_share
from stages.shared.dataset_params import AnyDataset
from stages.shared.errors import UserError
from stages.shared.facts import Facts
from stages.shared.ordered_map import ordered_map
from stages.shared.pictures import BadPictureError, Example, Labels
from stages.shared.records import RECORDS_DIR, Record
from stages.shared.schema import SPLITS
from stages.shared.sources import demo, folder, tfds

SOURCES = {"demo": demo, "folder": folder, "tfds": tfds}


class Prepared(NamedTuple):
    """A record, and what is known of the picture that it was made from."""

    record: Record
    facts: Facts


class Preparation:
    """Makes records of a source's examples, and keeps the facts of them.

    Args:
        settings: the data set.
        labels: what stands in its masks.

    Attributes:
        facts: of the pictures so far.
        left_out: those that could not be used so far.
    """

    def __init__(self, settings: AnyDataset, labels: Labels) -> None:
        self.settings, self.labels = settings, labels
        self.facts: list[Facts] = []
        self.left_out: list[LeftOut] = []

    def records(self, examples: Iterable[Example], split: str) -> Iterator[Record]:
        """The records of a split's examples, in order.

        Raises:
            UserError: an example can't be used, and `dataset.bad_pictures` is `stop`.
        """
        progress = tqdm(examples, desc=f"prepare {split}", unit="picture")
        for name, result in ordered_map(lambda e: (e.name, self._prepared(e, split)), progress):
            if isinstance(result, Prepared):
                self.facts.append(result.facts)
                yield result.record
            elif self.settings.bad_pictures == "skip":
                self.left_out.append(LeftOut(split=split, name=name, reason=str(result)))
            else:
                raise UserError(
                    f"{name} (split {split}): {result}; to leave such pictures out, set "
                    "dataset.bad_pictures to skip"
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
            digest=hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest(),
            classes=frozenset(np.unique(fitted[1]).tolist()) - {IGNORED},
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
    preparation = Preparation(settings, labels)
    examples = source.examples(settings, seed)

    outputs.fresh_folder(RECORDS_DIR)
    shards: dict[str, list[Shard]] = {}
    shares: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        found = preparation.records(examples[split], split)
        shards[split], counts = _write_split(split, found, settings.shard_size, len(labels.classes))
        shares[split] = pixel_share(counts, labels.classes)
        if not shards[split]:
            unusable = [picture for picture in preparation.left_out if picture.split == split]
            first = f"; {unusable[0].name}: {unusable[0].reason}" if unusable else ""
            raise UserError(
                f"params.yaml: dataset.splits.{split} is {getattr(settings.splits, split)!r}, "
                f"which leaves no picture ({len(unusable)} could not be used{first})"
            )
    dataset = Dataset(
        source=settings.model_dump(mode="json", exclude={"root", "data_dir", "manual_dir"}),
        image_size=settings.image_size,
        fit=settings.fit,
        classes=labels.classes,
        pixel_share=shares,
        shards=shards,
        left_out=preparation.left_out,
    )
    dataset.save()
    dataset_page.write(dataset, preparation.facts)


def _write_split(
    split: str, fitted: Iterator[Record], shard_size: int, classes: int
) -> tuple[list[Shard], np.ndarray]:
    """Write a split shard by shard; return its shards and the pixel count of each class."""
    counts = np.zeros(classes, np.int64)
    shards: list[Shard] = []

    def counted(shard: Shard) -> Iterator[Record]:
        for record in islice(fitted, shard_size):
            shard.pictures += 1
            counted = record.mask[record.mask != IGNORED]
            counts[:] += np.bincount(counted, minlength=classes)
            yield record

    while True:
        shard = Shard(file=f"{split}-{len(shards):05d}.tfrecord", pictures=0)
        records.write(RECORDS_DIR / shard.file, counted(shard))
        if not shard.pictures:
            (RECORDS_DIR / shard.file).unlink()
            return shards, counts
        shards.append(shard)


if __name__ == "__main__":
    errors.run_stage(prepare)
