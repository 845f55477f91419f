"""Somebody's own pictures, by the README's lines: colours, one ignored, sizes of all kinds."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.prepare import settings as dataset_settings
from stages.prepare import stage
from stages.prepare.sources import demo
from tests.conftest import ROOT, Project, copy_project, write_params

# An own (height, width), and the orientation in EXIF of each picture.
SIZES = [(60, 90), (90, 60), (64, 64), (70, 140), (48, 49)] * 2
ORIENTATIONS = [1, 6, 1, 3, 8] * 2
ORIENTATION = 0x0112
TO_STORE = {1: 0, 6: 1, 3: 2, 8: -1}  # Quarter turns against the clock.
VOID = len(demo.CLASSES)
NAMES = {"#0000ff": "ground", "#00ff00": "disc", "#101010": "ring", "#ff0000": "bar"} | {
    "#ffff00": "tile"
}
COLOURS = np.array(
    [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*NAMES, "#ffffff")], np.uint8
)


def example(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture as a viewer shows it, and its labels; those at its left edge are void."""
    image, labels = demo.draw(SIZES[index], (3, index))
    labels[:, :5] = VOID
    return image, labels


def in_colours(labels: np.ndarray) -> np.ndarray:
    return COLOURS[labels]


def in_16_bits(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint16) * 1000


def write_data_set(root: Path, encode=in_colours) -> None:
    """Pictures fotos/FOLDER/Nº N.png and masks masken/FOLDER/Nº N_mask.png."""
    for index, orientation in enumerate(ORIENTATIONS):
        image, labels = example(index)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        folder = ("Teil eins", "Teil zwei")[index % 2]
        for kind, name, pixels, options in (
            ("fotos", f"Nº {index}", np.rot90(image, TO_STORE[orientation]), {"exif": exif}),
            ("masken", f"Nº {index}_mask", encode(labels), {}),
        ):
            path = root / kind / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def dataset(**changes: object) -> dict:
    """The section of params.yaml, begun as the README says."""
    profile = yaml.safe_load((ROOT / "profiles/folder.yaml").read_text())["dataset"]
    return (
        profile
        | {
            "pictures": "fotos/**/*.png",
            "masks": "masken/**/*_mask.png",
            "splits": {"by": "fraction", "train": 0.5, "validation": 0.2, "test": 0.3},
            "classes": NAMES,
            "ignore": ["#ffffff"],
            "image_size": [64, 96],
            "shard_size": 4,
        }
        | changes
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project on these pictures, after the README's lines."""
    project = copy_project(tmp_path_factory.mktemp("own") / "project")
    write_data_set(project.folder / "data/pictures")
    project.run("dvc", "add", "data/pictures")
    project.set_params({"dataset": dataset()})
    params = project.params
    params["variants"] = {"fcn32s": params["variants"]["fcn32s"]}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project.repro()
    project.commit()
    return project


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_metrics_count_no_padding_and_no_ignored_pixel(built: Project, monkeypatch):
    """The confusion matrix holds the pixels that are counted here from the masks as drawn."""
    own = dataset_settings.FolderSource.model_validate(dataset() | {"root": "data/pictures"})
    monkeypatch.chdir(built.folder)
    expected = dict.fromkeys(demo.CLASSES, 0)
    for found in stage.SOURCES["folder"].examples(own, built.params["seed"])["test"]:
        _, labels = example(int(Path(found.name).stem.split()[1]))
        height, width = labels.shape
        scale = min(64 / height, 96 / width)
        size = (round(width * scale), round(height * scale))
        shown = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        for label, name in enumerate(demo.CLASSES):
            expected[name] += int((shown == label).sum())
    counted = dict.fromkeys(demo.CLASSES, 0)
    for row in rows(built.folder / "reports/fcn32s/confusion.csv"):
        counted[row["truth"]] += int(row["pixels"])
    assert counted == expected
    assert sum(expected.values()) < 3 * 64 * 96


def test_every_split_has_its_pictures_and_the_page_shows_them(built: Project):
    page = (built.folder / "reports/dataset/index.html").read_text(encoding="utf-8")
    for index in range(len(SIZES)):
        folder = ("Teil eins", "Teil zwei")[index % 2]
        assert f"<figcaption>fotos/{folder}/Nº {index}.png</figcaption>" in page


def test_an_export_of_it_is_there(built: Project):
    card = (built.folder / "models/export/fcn32s/README.md").read_text(encoding="utf-8")
    assert "| pictures | fotos/**/*.png |" in card


def test_changing_a_picture_runs_prepare_again(built: Project):
    path = built.folder / "data/pictures/fotos/Teil eins/Nº 0.png"
    with Image.open(path) as image:
        changed = Image.fromarray(255 - np.asarray(image))
    path.unlink()  # It is a link into DVC's cache.
    changed.save(path)
    done = built.run("dvc", "repro", "prepare")
    assert "Running stage 'prepare'" in done.stdout
    assert built.run("git", "status", "--porcelain").stdout.split() == [
        "M",
        "data/pictures.dvc",
        "M",
        "dvc.lock",
    ]


def test_masks_in_colours_and_in_16_bits_give_the_same_records(tmp_path: Path, monkeypatch):
    records = []
    labels = {label * 1000: name for label, name in enumerate(demo.CLASSES)}
    for name, encode, changes in (
        ("colours", in_colours, {}),
        ("16 bits", in_16_bits, {"classes": labels, "ignore": [VOID * 1000]}),
    ):
        folder = tmp_path / name
        write_data_set(folder / "data/pictures", encode)
        monkeypatch.chdir(folder)
        own = dataset_settings.FolderSource.model_validate(dataset(**changes))
        write_params(own, seed=27)
        stage.prepare()
        records.append(Project(folder).digests("data/records"))
    assert records[0] == records[1]
    assert len(records[0]) == 4
