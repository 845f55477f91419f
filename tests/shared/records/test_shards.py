"""Records of a split: read by index, each shard checked when it is first read."""

from pathlib import Path

import numpy as np
import pytest

from stages.shared.records import shards
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.records.shards import PictureReader, Record, spaced
from stages.shared.runtime.digests import digest
from stages.shared.runtime.errors import UserError

SIZES = (3, 1, 2)


@pytest.fixture
def records() -> list[Record]:
    random = np.random.default_rng(0)
    return [
        Record(
            f"picture {number}",
            random.integers(0, 256, (4, 5, 3), np.uint8),
            random.integers(0, 3, (4, 5), np.uint8),
        )
        for number in range(sum(SIZES))
    ]


@pytest.fixture
def dataset(records: list[Record], tmp_path: Path) -> Dataset:
    """Three shards of a split."""
    remaining, described = iter(records), []
    for number, size in enumerate(SIZES):
        path = tmp_path / f"test-{number}.tfrecord"
        shards.write(path, [next(remaining) for _ in range(size)])
        described.append(Shard(file=path.name, pictures=size, digest=digest(path)))
    return Dataset(
        source={},
        image_size=(4, 5),
        fit="stretch",
        classes=["a", "b", "c"],
        pixels={},
        shards={"test": described},
        left_out=[],
    )


def test_every_record_is_found_by_its_index(dataset: Dataset, records: list[Record], tmp_path):
    reader = PictureReader(dataset, "test", tmp_path)
    assert len(reader) == len(records)
    for index in (5, 0, 3, 2, 4, 1):
        assert reader[index].name == records[index].name
        np.testing.assert_array_equal(reader[index].image, records[index].image)
    images, masks = reader.take(np.array([4, 3]))
    np.testing.assert_array_equal(images, [records[4].image, records[3].image])
    np.testing.assert_array_equal(masks, [records[4].mask, records[3].mask])


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_shard_is_checked_when_it_is_first_read(damage: str, dataset: Dataset, tmp_path: Path):
    path = tmp_path / "test-1.tfrecord"
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[:90])
    reader = PictureReader(dataset, "test", tmp_path)
    assert [reader[index].name for index in (0, 2, 5)] == ["picture 0", "picture 2", "picture 5"]
    expected = FileNotFoundError if damage == "gone" else UserError
    for _ in range(2):
        with pytest.raises(expected, match=r"test-1\.tfrecord"):
            reader[3]


def test_pictures_are_spaced_evenly_and_none_is_taken_twice():
    assert spaced(3, 9) == [0, 4, 8]
    assert spaced(5, 3) == [0, 1, 2]
    assert spaced(1, 7) == [0]
