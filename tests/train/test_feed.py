from collections.abc import Iterator

import numpy as np

from stages.train.batches import Batch
from stages.train.feed import feed

SIZES = (3, 3, 2)


def stream() -> Iterator[tuple[Batch]]:
    for number, pictures in enumerate(SIZES):
        inputs = {"stride32": np.full((pictures, 2, 2, 4), number, "uint8")}
        yield ({"inputs": inputs, "masks": np.full((pictures, 8, 8), number, "uint8")},)


def test_keras_reads_the_batches_in_their_order_and_the_last_may_be_smaller():
    batches = list(feed(stream()).as_numpy_iterator())
    assert len(batches) == len(SIZES)
    for (batch,), (expected,) in zip(batches, stream(), strict=True):
        np.testing.assert_array_equal(batch["masks"], expected["masks"])
        np.testing.assert_array_equal(batch["inputs"]["stride32"], expected["inputs"]["stride32"])


def test_no_thread_tunes_what_keras_reads_which_would_be_waited_for():
    assert feed(stream()).options().autotune.enabled is False
