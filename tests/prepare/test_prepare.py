"""Stage prepare: same input, same bytes; bad pictures; the TFDS source on data made on the spot."""

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from operator import length_hint
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from stages.prepare import settings as dataset_settings
from stages.prepare import shard, stage
from stages.prepare.decoding import Example, Labels, decode_pair
from stages.prepare.sources import demo
from stages.prepare.sources import tfds as tfds_source
from stages.shared.engines import local
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.runtime import ordered_map
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import RECORDS_DIR
from stages.shared.settings.section import SPLITS
from tests.conftest import Project, encoded, write_params


def labelled_picture(index: int) -> tuple[bytes, bytes]:
    """A small picture of its own size and a mask of the labels 1, 2 and 3, as files."""
    rng = np.random.default_rng(index)
    size = (40 + index, 60 - index)
    image, mask = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(1, 4, size, np.uint8)
    return encoded(image, "PNG"), encoded(mask, "PNG")


class SmallPets(tfds.core.GeneratorBasedBuilder):
    """A data set with the features of Oxford-IIIT Pet: 8 pictures to train on, 4 to test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            "file_name": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(8)),
            "test": self._generate_examples(range(8, 12)),
        }

    def _generate_examples(self, indices: range) -> Iterator[tuple[str, dict]]:
        for index in indices:
            image, mask = (io.BytesIO(file) for file in labelled_picture(index))
            name = f"pet_{index}.png"
            yield name, {"image": image, "segmentation_mask": mask, "file_name": name}


@pytest.fixture(scope="module")
def small_pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data_dir with `small_pets` prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    SmallPets(data_dir=folder).download_and_prepare()
    return folder


def tfds_settings(**changes: object) -> dataset_settings.TfdsSource:
    settings = {
        "source": "tfds",
        "name": "small_pets",
        "splits": {"train": "train[:75%]", "validation": "train[75%:]", "test": "test"},
        "image": "image",
        "mask": "segmentation_mask",
        "classes": {1: "pet", 2: "background", 3: "border"},
        "data_dir": None,
        "manual_dir": None,
        "root": "data/archives",
        "image_size": 32,
        "shard_size": 4,
        "bad_pictures": "stop",
    }
    return dataset_settings.TfdsSource(**settings | changes)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to run a stage in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_prepare(settings: dataset_settings.Source, monkeypatch) -> Dataset:
    """Run the stage with these settings in the current folder."""
    write_params(settings, seed=27)
    stage.prepare()
    return Dataset.load()


def all_records(dataset: Dataset, split: str) -> list[shards.Record]:
    return [
        shards.Record(*record)
        for shard in dataset.shards[split]
        for batch in shards.batches(shard, dataset.image_size, 3)
        for record in zip(*batch, strict=True)
    ]


def test_a_tfds_data_set_becomes_records(small_pets: Path, in_folder: Path, monkeypatch):
    dataset = run_prepare(tfds_settings(data_dir=str(small_pets)), monkeypatch)
    assert dataset.classes == ["pet", "background", "border"]
    assert dataset.image_size == (32, 32)
    assert {split: dataset.pictures(split) for split in SPLITS} == {
        "train": 6,
        "validation": 2,
        "test": 4,
    }
    assert [shard.pictures for shard in dataset.shards["train"]] == [4, 2]
    names = set()
    for split in SPLITS:
        for record in all_records(dataset, split):
            index = int(record.name.removeprefix("pet_").removesuffix(".png"))
            image, mask = (Image.open(io.BytesIO(f)) for f in labelled_picture(index))
            expected = np.asarray(mask.resize((32, 32), Image.Resampling.NEAREST)) - 1
            np.testing.assert_array_equal(record.mask, expected)
            resized = image.resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(record.image, np.asarray(resized))
            names.add(record.name)
    assert names == {f"pet_{index}.png" for index in range(12)}


def test_the_pixel_shares_are_those_of_the_masks(small_pets: Path, in_folder: Path, monkeypatch):
    dataset = run_prepare(tfds_settings(data_dir=str(small_pets)), monkeypatch)
    masks = np.stack([record.mask for record in all_records(dataset, "train")])
    for index, name in enumerate(dataset.classes):
        assert dataset.pixel_share["train"][name] == pytest.approx(
            (masks == index).mean(), abs=1e-6
        )


def demo_settings(image_size: int) -> dataset_settings.DemoSource:
    """Thirteen drawn pictures, in five shards."""
    return dataset_settings.DemoSource(
        source="demo",
        root="data/archives",
        splits={"train": 9, "validation": 2, "test": 2},
        image_size=image_size,
        shard_size=4,
        bad_pictures="stop",
    )


def test_prepare_twice_gives_the_same_bytes_on_any_number_of_cores(in_folder: Path, monkeypatch):
    settings = demo_settings(image_size=48)
    run_prepare(settings, monkeypatch)
    first = Project(in_folder).digests("data", "reports")
    with monkeypatch.context() as patched:
        patched.setattr(ordered_map.os, "sched_getaffinity", lambda _: {0})
        run_prepare(settings, monkeypatch)
    assert Project(in_folder).digests("data", "reports") == first
    assert len(first) == 6 + 2 + 12
    # Two processes, each of which makes shards.
    monkeypatch.setattr(stage, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(stage, "shared_cores", lambda: 2)
    monkeypatch.setattr(local, "in_process", counted := Mock(wraps=local.in_process))
    run_prepare(settings, monkeypatch)
    assert Project(in_folder).digests("data", "reports") == first
    assert counted.call_count == len(list(RECORDS_DIR.glob("*.tfrecord")))


@pytest.mark.parametrize(
    ("cores", "pictures", "expected"),
    [
        (1, (5000, 5000, 5000), (1, None)),
        (16, (900, 50, 49), (1, None)),
        (16, (900, 50, 50), (11, 1)),
        (2, (6000, 500, 500), (2, 1)),
        (16, (1500, 10, 10), (16, 1)),
        (64, (1500, 10, 10), (17, 3)),
    ],
)
def test_as_many_processes_as_there_are_shards_share_the_cores(
    cores: int, pictures: tuple, expected: tuple, monkeypatch
):
    monkeypatch.setattr(stage, "shared_cores", lambda: cores)
    settings = demo_settings(64).model_copy(update={"shard_size": 100})
    examples = {split: range(n) for split, n in zip(SPLITS, pictures, strict=True)}
    at_once, processes = stage.at_once(settings, examples)
    assert (at_once, processes and processes.threads) == expected


def test_pictures_of_tfds_go_to_processes_with_their_bytes(
    small_pets: Path, in_folder: Path, monkeypatch
):
    settings = tfds_settings(data_dir=str(small_pets), shard_size=2)
    run_prepare(settings, monkeypatch)
    first = Project(in_folder).digests("data")
    examples = stage.SOURCES["tfds"].examples(settings, 0)
    assert [length_hint(examples[split]) for split in SPLITS] == [6, 2, 4]
    assert min(example.carries for example in examples["train"]) > 40 * 55
    monkeypatch.setattr(stage, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(stage, "shared_cores", lambda: 2)
    run_prepare(settings, monkeypatch)
    assert Project(in_folder).digests("data") == first


def test_an_interrupted_prepare_goes_on_from_the_last_whole_shard(
    tmp_path: Path, monkeypatch, capsys
):
    settings = demo_settings(image_size=32)
    for folder in ("undisturbed", "interrupted"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "undisturbed")
    run_prepare(settings, monkeypatch)

    monkeypatch.chdir(tmp_path / "interrupted")
    drawn, draw = [], demo.draw

    def draw_until_ctrl_c(size: tuple, key: tuple) -> tuple:
        drawn.append(key)
        if key == (27, 0, 6) and drawn.count(key) == 1:
            raise KeyboardInterrupt
        return draw(size, key)

    monkeypatch.setattr(demo, "draw", draw_until_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run_prepare(settings, monkeypatch)
    assert not RECORDS_DIR.exists()
    run_prepare(settings, monkeypatch)
    assert "records: continuing an interrupted run" in capsys.readouterr().out
    again = {key for key in drawn if drawn.count(key) > 1}
    assert (27, 0, 6) in again
    assert not again & {(27, 0, index) for index in range(4)}
    undisturbed, interrupted = (
        Project(tmp_path / folder).digests("data", "reports")
        for folder in ("undisturbed", "interrupted")
    )
    assert interrupted == undisturbed


def test_the_demo_draws_pictures_that_are_no_squares():
    image, mask = demo.draw((64, 96), (27, 0, 3))
    assert (image.shape, mask.shape) == ((64, 96, 3), (64, 96))


def test_the_demo_draws_every_class_and_follows_its_seed():
    drawn = [demo.draw((128, 128), (27, 0, index)) for index in range(20)]
    assert set(np.unique([mask for _, mask in drawn])) == set(range(len(demo.CLASSES)))
    np.testing.assert_array_equal(drawn[3][0], demo.draw((128, 128), (27, 0, 3))[0])
    assert (drawn[3][0] != demo.draw((128, 128), (28, 0, 3))[0]).any()


class BrokenSource:
    """The small pictures; in the training split, one ends early and one has another's mask."""

    @staticmethod
    def labels(settings: dataset_settings.Source) -> Labels:
        return Labels({1: "pet", 2: "background", 3: "border"})

    @staticmethod
    def files(settings: dataset_settings.Source) -> list[Path]:
        return []

    @staticmethod
    def examples(settings: dataset_settings.Source, seed: int) -> dict[str, Iterator[Example]]:
        return {split: BrokenSource.of_split(split) for split in SPLITS}

    @staticmethod
    def of_split(split: str) -> Iterator[Example]:
        for index in range(4):
            image, mask = labelled_picture(index)
            if split == "train" and index == 1:
                image = image[:500]
            if split == "train" and index == 2:
                mask = labelled_picture(3)[1]
            yield Example(f"{split}_{index}.png", partial(decode_pair, image, mask))


def test_a_bad_picture_stops_prepare_named_with_its_split(in_folder: Path, monkeypatch):
    monkeypatch.setitem(stage.SOURCES, "tfds", BrokenSource)
    with pytest.raises(UserError, match=r"train_1\.png \(split train\): the picture does not deco"):
        run_prepare(tfds_settings(), monkeypatch)


def test_skip_leaves_bad_pictures_out_and_names_them(in_folder: Path, monkeypatch):
    monkeypatch.setitem(stage.SOURCES, "tfds", BrokenSource)
    dataset = run_prepare(tfds_settings(bad_pictures="skip"), monkeypatch)
    assert dataset.pictures("train") == 2
    assert [(left.split, left.name) for left in dataset.left_out] == [
        ("train", "train_1.png"),
        ("train", "train_2.png"),
    ]
    assert "the mask is 57 x 43 pixels, its picture 58 x 42" in dataset.left_out[1].reason


def test_ignored_labels_are_in_the_records_and_in_no_share(
    small_pets: Path, in_folder: Path, monkeypatch
):
    classes, ignore = {1: "pet", 2: "background"}, [3]
    settings = tfds_settings(data_dir=str(small_pets), classes=classes, ignore=ignore)
    dataset = run_prepare(settings, monkeypatch)
    masks = np.stack([record.mask for record in all_records(dataset, "train")])
    assert set(np.unique(masks)) == {0, 1, IGNORED}
    counted = masks[masks != IGNORED]
    expected = {name: (counted == i).mean() for i, name in enumerate(classes.values())}
    assert dataset.pixel_share["train"] == pytest.approx(expected, abs=1e-6)


def test_pictures_are_read_by_index_across_shards(small_pets: Path, in_folder: Path, monkeypatch):
    settings = tfds_settings(data_dir=str(small_pets), shard_size=4)
    dataset = run_prepare(settings, monkeypatch)
    assert len(dataset.shards["train"]) == 2
    expected = all_records(dataset, "train")
    reader = shards.PictureReader(dataset, "train")
    assert len(reader) == 6
    images, masks = reader.take(np.array([5, 0, 3]))
    for image, mask, index in zip(images, masks, (5, 0, 3), strict=True):
        np.testing.assert_array_equal(image, expected[index].image)
        np.testing.assert_array_equal(mask, expected[index].mask)


@pytest.mark.parametrize("records, expected", [(2.5, [2, 2, 2]), (0.5, [1] * 6), (100, [4, 2])])
def test_a_shard_of_large_pictures_has_fewer(
    records: float, expected: list[int], small_pets: Path, in_folder: Path, monkeypatch
):
    settings = tfds_settings(data_dir=str(small_pets), shard_size=4)
    one = shards.bytes_of(1, settings.image_size)
    monkeypatch.setattr(shard, "SHARD_BYTES", int(records * one))
    dataset = run_prepare(settings, monkeypatch)
    assert [shard.pictures for shard in dataset.shards["train"]] == expected


def test_labels_that_nobody_named_stop_prepare(small_pets: Path, in_folder: Path, monkeypatch):
    settings = tfds_settings(data_dir=str(small_pets), classes={1: "pet", 2: "background"})
    with pytest.raises(UserError, match=r"pet_\d\.png \(split train\): .*without a class: 3;"):
        run_prepare(settings, monkeypatch)


MISTAKES = {
    "unknown data set": ({"name": "oxford_iiit_pets"}, "dataset.name is 'oxford_iiit_pets'"),
    "unknown mask feature": ({"mask": "trimap"}, "dataset.mask is 'trimap'.*segmentation_mask"),
    "a text for a picture": ({"image": "file_name"}, "dataset.image is 'file_name'"),
    "unknown split": (
        {"splits": {"train": "train", "validation": "dev", "test": "test"}},
        "dataset.splits.validation is 'dev': Unknown split 'dev'",
    ),
    "empty split": (
        {"splits": {"train": "train", "validation": "train[8:]", "test": "test"}},
        r"dataset.splits.validation is 'train\[8:\]'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_tfds_settings_is_named(mistake, small_pets, in_folder, monkeypatch):
    changes, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=f"(?s){message}"):
        run_prepare(tfds_settings(data_dir=str(small_pets), **changes), monkeypatch)


def oxford_archives(folder: Path) -> None:
    """The two archives of Oxford-IIIT Pet, with a dozen small pictures; some only named .jpg."""
    lists = {"trainval": range(8), "test": range(8, 12)}
    with (
        tarfile.open(folder / "images.tar.gz", "w:gz") as images,
        tarfile.open(folder / "annotations.tar.gz", "w:gz") as annotations,
    ):

        def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for split, indices in lists.items():
            lines = "".join(f"Abyssinian_{index} 1 1 1\n" for index in indices)
            add(annotations, f"annotations/{split}.txt", lines.encode())
            for index in indices:
                image, mask = labelled_picture(index)
                add(images, f"images/Abyssinian_{index}.jpg", image)
                add(annotations, f"annotations/trimaps/Abyssinian_{index}.png", mask)


def test_archives_placed_by_hand_are_used_in_place_of_a_download(
    in_folder: Path, tmp_path_factory, monkeypatch
):
    """The real builder reads them; only the checksums that it expects are those of our archives."""
    archives = tmp_path_factory.mktemp("archives")
    oxford_archives(archives)
    builder_class = tfds.builder_cls("oxford_iiit_pet")
    expected = {
        url: tfds.core.download.checksums.compute_url_info(archives / str(info.filename))
        for url, info in builder_class.url_infos.items()
    }
    monkeypatch.setattr(builder_class, "url_infos", expected)
    no_network(monkeypatch)
    settings = tfds_settings(
        name="oxford_iiit_pet", data_dir=str(in_folder / "tfds"), manual_dir=str(archives)
    )
    dataset = run_prepare(settings, monkeypatch)
    assert [dataset.pictures(split) for split in SPLITS] == [6, 2, 4]


def test_an_archive_that_is_not_the_published_one_is_named(in_folder: Path, monkeypatch):
    archives = in_folder / "archives"
    archives.mkdir()
    oxford_archives(archives)
    no_network(monkeypatch)
    settings = tfds_settings(
        name="oxford_iiit_pet", data_dir=str(in_folder / "tfds"), manual_dir=str(archives)
    )
    with pytest.raises(
        UserError, match=r"archives/\w+\.tar\.gz is not the archive that TFDS expec"
    ):
        run_prepare(settings, monkeypatch)


def test_a_download_that_fails_is_told_with_the_ways_out(in_folder: Path, monkeypatch):
    no_network(monkeypatch)
    settings = tfds_settings(
        name="oxford_iiit_pet", data_dir=str(in_folder / "tfds"), manual_dir="data/archives"
    )
    with pytest.raises(UserError) as error:
        run_prepare(settings, monkeypatch)
    for way_out in (
        "annotations.tar.gz and images.tar.gz in data/archives",
        "dataset.data_dir",
        "cp profiles/demo.yaml params.yaml",
    ):
        assert way_out in str(error.value)


def no_network(monkeypatch) -> None:
    """Send every request to a port where nothing listens."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def test_a_mistake_ends_the_stage_with_its_sentence_and_no_traceback(fresh_project: Project):
    fresh_project.set_params({"dataset.splits.train": 0})
    done = fresh_project.stage("prepare", check=False)
    assert done.returncode == 1
    assert "error: params.yaml: dataset.splits.train is 0; it should be greater" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_run_by_hand_too_early_says_what_is_missing(fresh_project: Project):
    done = fresh_project.stage("train", "fcn8s", check=False)
    assert done.returncode == 1
    assert (
        "error: data/features/vgg19/head/features.json is missing; `dvc repro` makes it"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_stage_run_by_hand_says_what_it_takes(fresh_project: Project):
    done = fresh_project.stage("train", check=False)
    assert done.returncode == 1
    assert "usage: python -m stages.train VARIANT" in done.stderr


def test_a_stage_run_by_hand_does_not_write_into_dvc_s_cache(fresh_project: Project):
    fresh_project.run("dvc", "repro", "prepare")
    cached = {
        p: p.read_bytes() for p in (fresh_project.folder / ".dvc/cache").rglob("*") if p.is_file()
    }
    fresh_project.set_params({"seed": 28})
    fresh_project.stage("prepare")
    assert {path: path.read_bytes() for path in cached} == cached


@pytest.mark.parametrize("name", ["small_pets:9.9.9", "small_pets/other"])
def test_a_version_or_a_configuration_that_tfds_does_not_have_is_named(
    name: str, small_pets: Path, in_folder: Path
):
    with pytest.raises(UserError, match=rf"dataset\.name is {name!r}"):
        tfds_source.examples(tfds_settings(name=name, data_dir=str(small_pets)), seed=0)
