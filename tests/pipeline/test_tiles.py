"""fit: tiles, from pictures of many sizes to metrics of whole pictures."""

import csv
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.prepare import stage as prepare
from stages.prepare.sources import demo
from stages.shared.formats import predictions
from stages.shared.formats.predictions import Summary
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import PictureReader
from stages.shared.settings.section import SPLITS
from tests.conftest import ROOT, Project, copy_project

# (height, width) of the pictures; one of each three is smaller than a tile.
SIZES = [(130, 100), (64, 200), (50, 90), (64, 64), (151, 97), (180, 40)] * 2
VARIANTS = ("frozen", "tuned")


def example(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its labels; those at its left edge are ignored."""
    image, labels = demo.draw(SIZES[index], (5, index))
    labels[:, :3] = IGNORED
    return image, labels


def index_of(name: str) -> int:
    return int(Path(name).stem)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project on these pictures, after `dvc repro`."""
    project = copy_project(tmp_path_factory.mktemp("tiles") / "project")
    root = project.folder / "data/pictures"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(len(SIZES)):
        for kind, pixels in zip(("images", "masks"), example(index), strict=True):
            Image.fromarray(pixels).save(root / kind / f"{index:02d}.png")
    profile = yaml.safe_load((ROOT / "profiles/folder.yaml").read_text())["dataset"]
    project.set_params(
        {
            "dataset": profile
            | {
                "pictures": "images/*.png",
                "masks": "masks/*.png",
                "splits": {"by": "fraction", "train": 0.5, "validation": 0.25, "test": 0.25},
                "classes": dict(enumerate(demo.CLASSES)),
                "ignore": [IGNORED],
                "image_size": 64,
                "fit": "tiles",
                "shard_size": 16,
            },
            "variants": {
                "frozen": {"backbone": "vgg19", "train": "head", "stride": 32, "parent": "vgg19"}
                | {"epochs": 40, "batch_size": 4},
                "tuned": {"backbone": "vgg19", "train": "network", "stride": 32, "epochs": 1}
                | {"parent": "frozen", "learning_rate": 1e-5},
            },
            "export.variants": ["tuned"],
            "export.formats": ["onnx"],
        }
    )
    project.repro()
    return project


@pytest.fixture
def in_cut(cut: Project, monkeypatch) -> Project:
    """The same, as the current folder."""
    monkeypatch.chdir(cut.folder)
    return cut


def records() -> dict[str, dict[str, list]]:
    """The records of each picture, in order, by split and its file's name."""
    dataset, found = Dataset.load(), {}
    for split in SPLITS:
        reader = PictureReader(dataset, split)
        of_pictures = found.setdefault(split, {})
        for index in range(len(reader)):
            record = reader[index]
            of_pictures.setdefault(record.name.partition(" [")[0], []).append(record)
    return found


def records_of(project: Project) -> dict[str, dict[str, list]]:
    """The records of a project in another folder."""
    with chdir(project.folder):
        return records()


def test_the_records_are_the_pictures_at_their_own_scale(in_cut: Project):
    """Each tile lies where its name says, and the rest of one that stands out is ignored."""
    for of_pictures in records().values():
        for name, tiles in of_pictures.items():
            image, labels = example(index_of(name))
            seen = np.zeros(labels.shape, bool)
            for tile in tiles:
                place = tile.name.rpartition("[")[2].removesuffix("]")
                rows, columns = (slice(*map(int, part.split(":"))) for part in place.split(", "))
                part = labels[rows, columns]
                covered = slice(part.shape[0]), slice(part.shape[1])
                np.testing.assert_array_equal(tile.image[covered], image[rows, columns])
                np.testing.assert_array_equal(tile.mask[covered], part)
                assert (tile.mask == IGNORED).sum() == 64 * 64 - (part != IGNORED).sum()
                seen[rows, columns] = True
            assert seen.all()


def test_all_tiles_of_a_picture_are_in_one_split(in_cut: Project):
    dataset, found = Dataset.load(), records()
    names = [name for of_pictures in found.values() for name in of_pictures]
    assert len(set(names)) == len(names) == len(SIZES)
    assert [len(found[split]) for split in SPLITS] == [6, 3, 3]
    for split in SPLITS:
        assert dataset.pictures(split) == len(found[split])
        assert dataset.records(split) == sum(map(len, found[split].values())) > len(found[split])
        assert dataset.sizes[split] == [SIZES[index_of(name)] for name in found[split]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_metrics_count_each_pixel_of_a_whole_picture_once(in_cut: Project, variant: str):
    dataset, names = Dataset.load(), list(records()["test"])
    found = predictions.reader(variant, Summary.load(variant), len(names))
    expected = np.zeros((len(demo.CLASSES), len(demo.CLASSES)), int)
    for number, name in enumerate(names):
        labels = example(index_of(name))[1]
        assert found[number].shape == labels.shape
        counted = labels != IGNORED
        np.add.at(expected, (labels[counted], found[number][counted]), 1)
    lines = Path(f"reports/{variant}/confusion.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert [int(row["pixels"]) for row in rows] == expected.ravel().tolist()
    assert list(dataset.pixels["test"].values()) == expected.sum(axis=1).tolist()


def test_prediction_sees_a_picture_as_evaluate_measured_it(in_cut: Project, tmp_path: Path):
    names = list(records()["test"])
    pictures = [f"data/pictures/{name}" for name in names]
    for variant in VARIANTS:
        out = tmp_path / variant
        in_cut.command("predict", "--variant", variant, "--out", str(out), *pictures)
        stored = predictions.reader(variant, Summary.load(variant), len(names))
        for number, name in enumerate(names):
            mask = np.asarray(Image.open(out / f"{Path(name).stem}.png"))
            # The activations that a head reads are stored in 255 steps.
            assert np.bincount(mask.ravel()).max() < 0.9 * mask.size
            assert (mask == stored[number]).mean() >= (1.0 if variant == "tuned" else 0.98)


def test_prediction_warns_of_pictures_of_another_scale(in_cut: Project, tmp_path: Path):
    told = {}
    for name, size in {"small": (20, 20), "as they were": (100, 100), "large": (500, 400)}.items():
        Image.fromarray(demo.draw(size, (1, 1))[0]).save(picture := tmp_path / f"{name}.png")
        arguments = ("--variant", "tuned", "--replace", "--out", str(tmp_path / "out"))
        told[name] = in_cut.command("predict", *arguments, str(picture)).stderr
    assert "small.png is seen at 20 x 20 pixels, those in training at" in told["small"]
    assert "large.png is seen at 400 x 500 pixels, those in training at" in told["large"]
    assert "in training" not in told["as they were"]
    # What the advice leads to is no reason for another.
    again = ("--scale", "0.25", str(tmp_path / "large.png"))
    assert "in training" not in in_cut.command("predict", *arguments, *again).stderr
    again = ("--scale", "5", str(tmp_path / "as they were.png"))
    assert "seen at 500 x 500 pixels" in in_cut.command("predict", *arguments, *again).stderr


def test_whole_pictures_are_compared_and_shown(in_cut: Project):
    in_cut.command("report")
    page = " ".join(Path("reports/index.html").read_text(encoding="utf-8").split())
    assert "on 3 pictures" in page
    assert "in tiles of 64 x 64 pixels" in page
    assert "GFLOP a tile" in page
    cards = {path.name: Image.open(path).size for path in Path("reports/gallery").glob("*.jpg")}
    sizes = {SIZES[index_of(name)][::-1] for name in records()["test"]}
    assert set(cards.values()) == sizes
    assert len(list(Path("reports/comparison/pictures").glob("*.png"))) == 2


def test_the_page_about_the_data_tells_of_tiles_and_of_small_pictures(in_cut: Project):
    page = Path("reports/dataset/index.html").read_text(encoding="utf-8")
    total = sum(Dataset.load().records(split) for split in SPLITS)
    assert f"<tr><td>all<td>{len(SIZES)}<td>{total}<td>0" in page
    assert "pictures that are smaller than a tile" in page
    card = next(Path("models/export/tuned").glob("*.md")).read_text(encoding="utf-8")
    assert "tiles of 64 x 64" in card


def test_a_file_holds_no_more_tiles_than_shard_size_says(in_cut: Project, monkeypatch, tmp_path):
    whole = [record for of in records().values() for tiles in of.values() for record in tiles]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pictures").symlink_to(in_cut.folder / "data/pictures")
    params = in_cut.params
    params["dataset"] |= {"shard_size": 4, "scale": 1.0, "overlap": 0.25}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    prepare.prepare()
    dataset = Dataset.load()
    assert max(shard.pictures for split in SPLITS for shard in dataset.shards[split]) == 4
    assert any("-1.tfrecord" in shard.file for shard in dataset.shards["train"])
    again = [record for of in records().values() for tiles in of.values() for record in tiles]
    assert [record.name for record in again] == [record.name for record in whole]
    for before, after in zip(whole, again, strict=True):
        np.testing.assert_array_equal(before.image, after.image)


def test_a_picture_that_is_left_out_leaves_out_its_tiles(in_cut: Project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(in_cut.folder / "data/pictures", tmp_path / "data/pictures")
    lost = next(iter(records_of(in_cut)["train"]))
    (tmp_path / "data/pictures" / lost).write_bytes(b"no picture")
    params = in_cut.params
    params["dataset"]["bad_pictures"] = "skip"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    prepare.prepare()
    dataset, found = Dataset.load(), records()
    assert [left.name for left in dataset.left_out] == [lost]
    assert lost not in found["train"]
    assert dataset.sizes["train"] == [SIZES[index_of(name)] for name in found["train"]]
    tiles = [len(grid.tiles) for grid in dataset.grids("train")]
    assert tiles == [len(each) for each in found["train"].values()]


def test_a_scale_is_that_of_the_pictures_that_are_cut(in_cut: Project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pictures").symlink_to(in_cut.folder / "data/pictures")
    params = in_cut.params
    params["dataset"] |= {"scale": 2.0, "overlap": 0.0}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    prepare.prepare()
    dataset = Dataset.load()
    for split, of_pictures in records().items():
        for size, name in zip(dataset.sizes[split], of_pictures, strict=True):
            assert size == tuple(2 * side for side in SIZES[index_of(name)])
    tile = next(iter(records()["train"].values()))[0]
    image, _ = example(index_of(tile.name.partition(" [")[0]))
    height, width = image.shape[:2]
    larger = Image.fromarray(image).resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(tile.image, np.asarray(larger)[:64, :64])
