"""Stage `prepare`: pictures and masks from a data source to sharded TFRecord files.

    source -> decode, resize, remap (all cores) -> data/records/*.tfrecord, data/dataset.json

Memory holds a window of pictures, never a split. The order is the source's, so the same input
gives the same bytes on any number of cores.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from stages.shared import errors, outputs, params, pictures, records
from stages.shared.dataset import IGNORED, Dataset, LeftOut, Shard, pixel_share
from stages.shared.errors import UserError
from stages.shared.pictures import BadPictureError, Example
from stages.shared.records import RECORDS_DIR, Record
from stages.shared.sources import demo, tfds

SOURCES = {"demo": demo, "tfds": tfds}

Item = TypeVar("Item")
Result = TypeVar("Result")


def prepare() -> None:
    """Write the records of all splits and dataset.json.

    Raises:
        UserError: the source is not to be had, a split is empty, or a picture can't be used and
            `dataset.bad_pictures` is `stop`.
    """
    settings, seed = params.read("dataset"), params.read("seed")
    source = SOURCES[settings.source]
    labels = source.labels(settings)
    classes = list(labels.values())
    image_size = (settings.image_size, settings.image_size)
    fit = partial(_fit, table=pictures.label_table(labels, settings.ignore), image_size=image_size)

    outputs.fresh_folder(RECORDS_DIR)
    shards: dict[str, list[Shard]] = {}
    shares: dict[str, dict[str, float]] = {}
    left_out: list[LeftOut] = []
    for split in params.SPLITS:
        found = source.examples(settings, split, seed)
        fitted = _usable(found, fit, split, settings.bad_pictures, left_out)
        shards[split], counts = _write_split(split, fitted, settings.shard_size, len(classes))
        shares[split] = pixel_share(counts, classes)
        if not shards[split]:
            unusable = sum(picture.split == split for picture in left_out)
            raise UserError(
                f"params.yaml: dataset.splits.{split} is {getattr(settings.splits, split)!r}, "
                f"which leaves no picture ({unusable} could not be used)"
            )
    Dataset(
        source=settings.model_dump(mode="json", exclude={"data_dir", "manual_dir"}),
        image_size=image_size,
        classes=classes,
        pixel_share=shares,
        shards=shards,
        left_out=left_out,
    ).save()


def _fit(
    example: Example, table: np.ndarray, image_size: tuple[int, int]
) -> Record | BadPictureError:
    """Decode, remap and resize one example; what is wrong with it is returned, not raised."""
    try:
        image, mask = example.decode()
        image, mask = pictures.resize(image, pictures.remap(mask, table), image_size)
    except BadPictureError as error:
        return error
    return Record(example.name, image, mask)


def _usable(
    examples: Iterable[Example],
    fit: Callable[[Example], Record | BadPictureError],
    split: str,
    bad_pictures: str,
    left_out: list[LeftOut],
) -> Iterator[Record]:
    """The examples that can be fitted, in order; the others stop the stage or go to `left_out`."""
    progress = tqdm(examples, desc=f"prepare {split}", unit="picture")
    for name, result in ordered_map(lambda e: (e.name, fit(e)), progress):
        if isinstance(result, Record):
            yield result
        elif bad_pictures == "skip":
            left_out.append(LeftOut(split=split, name=name, reason=str(result)))
        else:
            raise UserError(
                f"{name} (split {split}): {result}; mend it, or set dataset.bad_pictures to skip"
            )


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


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` on all cores, results in order, with a bounded number of items under way."""
    cores = len(os.sched_getaffinity(0))
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 4 * cores:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


if __name__ == "__main__":
    errors.run_stage(prepare)
