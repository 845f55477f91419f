"""A shard of records, made from examples and from nothing else."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stages.prepare.decoding import Example, Labels, fit
from stages.prepare.facts import DOUBTS, Facts
from stages.prepare.settings import AnySource
from stages.shared.formats.pictures import BadPictureError
from stages.shared.manifest import Part
from stages.shared.records import shards
from stages.shared.records.dataset import IGNORED, LeftOut
from stages.shared.records.shards import Record
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.ordered_map import ordered_map


class PreparedShard(Part):
    """A finished shard; one of which nothing could be used has no file.

    Attributes:
        pixels: of each class in its masks.
        facts: of its pictures.
        left_out: the examples that could not be used.
    """

    schema_version: Literal[3] = 3
    pixels: list[int]
    facts: list[Facts]
    left_out: list[LeftOut]


class Prepared(NamedTuple):
    """A record, and what is known of the picture that it was made from."""

    record: Record
    facts: Facts


def prepare_shard(
    settings: AnySource,
    labels: Labels,
    split: str,
    file: str,
    examples: list[Example],
    folder: Path,
    tick: Callable[[int], object],
) -> PreparedShard:
    """Write a shard of records.

    Args:
        settings: the data set.
        labels: what stands in its masks.
        split: of the examples.
        file: name of the shard.
        examples: what it is made from.
        folder: where it is written.
        tick: is called with the number of finished examples.

    Raises:
        UserError: an example can't be used, and `dataset.bad_pictures` is `stop`.
    """
    facts: list[Facts] = []
    left_out: list[LeftOut] = []
    pixels = np.zeros(len(labels.classes), np.int64)

    def prepared(example: Example) -> tuple[str, Prepared | BadPictureError]:
        return example.name, _prepared(example, settings, labels, split)

    def usable() -> Iterator[Record]:
        for name, result in ordered_map(prepared, examples):
            tick(1)
            if isinstance(result, Prepared):
                facts.append(result.facts)
                counted = result.record.mask[result.record.mask != IGNORED]
                pixels[:] += np.bincount(counted, minlength=len(pixels))
                yield result.record
            elif settings.bad_pictures == "skip":
                left_out.append(LeftOut(split=split, name=name, reason=str(result)))
            else:
                raise UserError(
                    f"{name} (split {split}): {result}; to leave such pictures out, set "
                    "dataset.bad_pictures to skip"
                )

    path = folder / file
    shards.write(path, usable())
    if not facts:
        path.unlink()
    return PreparedShard(
        files={file: digests.digest(path)} if facts else {},
        pixels=pixels.tolist(),
        facts=facts,
        left_out=left_out,
    )


def _prepared(
    example: Example, settings: AnySource, labels: Labels, split: str
) -> Prepared | BadPictureError:
    """Decode and fit one example; an error is returned, not raised."""
    try:
        image, stored, doubts = example.decode()
        mask = labels.indices(stored, DOUBTS["jpeg"] if "jpeg" in doubts else "")
    except BadPictureError as error:
        return BadPictureError(f"{error} (its mask is {example.mask})") if example.mask else error
    fitted = fit(image, mask, settings.image_size, settings.fit)
    facts = Facts(
        name=example.name,
        split=split,
        size=mask.shape,
        digest=hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest(),
        classes=sorted(set(np.unique(fitted[1]).tolist()) - {IGNORED}),
        doubts=doubts,
    )
    return Prepared(Record(example.name, *fitted), facts)
