"""Pictures a second from the cached records, and from JPEG and PNG files.

Run in a workspace that has records: `python -m benchmarks.input OUT`.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.features.settings import FeaturesSettings
from stages.prepare.decoding import decode_pair
from stages.prepare.settings import DemoSource
from stages.prepare.sources import demo
from stages.shared.formats import pictures
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset
from stages.shared.runtime.ordered_map import ordered_map
from stages.shared.settings.reading import read

# The size of a typical picture of Oxford-IIIT Pet, in pixels, and the quality of its JPEG.
ORIGINAL_SIZE = (375, 500)
QUALITY = 90
ORIGINALS = 64
PASSES = 5


def main() -> None:
    """Measure and write the file that the command line names."""
    files, size = encoded(read("dataset", DemoSource)), Dataset.load().image_size
    rates = {"originals": rate(partial(originals, files, size)), "records": rate(cached)}
    Path(sys.argv[1]).write_text(json.dumps(rates) + "\n")


def rate(take: Callable[[], Iterator[int]]) -> float:
    """Pictures a second of the fastest pass."""
    rates = []
    for _ in range(PASSES):
        start = time.perf_counter()
        count = sum(take())
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def encoded(settings: DemoSource) -> list[tuple[bytes, bytes]]:
    """Drawn pictures and masks as files of the usual kinds and size."""
    files = []
    for example, _ in zip(demo.examples(settings, 0)["train"], range(ORIGINALS), strict=False):
        image, mask = pictures.resize(*example.decode()[:2], ORIGINAL_SIZE)
        jpeg, png = io.BytesIO(), io.BytesIO()
        Image.fromarray(image).save(jpeg, "JPEG", quality=QUALITY)
        Image.fromarray(mask).save(png, "PNG")
        files.append((jpeg.getvalue(), png.getvalue()))
    return files


def originals(files: list[tuple[bytes, bytes]], size: pictures.Size) -> Iterator[int]:
    """Decode and resize on all cores, as prepare does; the number of pictures of each step."""

    def decode(file: tuple[bytes, bytes]) -> tuple[np.ndarray, np.ndarray]:
        return pictures.resize(*decode_pair(*file)[:2], size)

    for _ in ordered_map(decode, files):
        yield 1


def cached() -> Iterator[int]:
    """Read the records of the training split, as features does."""
    dataset, settings = Dataset.load(), read("features", FeaturesSettings)
    for shard in dataset.shards["train"]:
        for batch in shards.batches(shard, dataset.image_size, settings.batch_size):
            yield len(batch.names)


if __name__ == "__main__":
    main()
