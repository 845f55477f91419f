"""make new: params.yaml from a folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from commands.new import contents, params
from commands.new.command import described
from commands.new.contents import Kind
from commands.new.splitting import splitting
from stages.prepare.settings import FolderSource
from stages.prepare.sources import folder
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS
from tests.commands.layouts import LAYOUTS, colours, labels, picture, write
from tests.conftest import ROOT, Project


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_found_with_its_splits_and_classes(name: str, tmp_path: Path):
    expected = LAYOUTS[name](tmp_path)
    dataset, _ = described(tmp_path)
    settings = FolderSource.model_validate(dataset)
    pairs, parts = folder.found(settings, seed=1)
    assert tuple(len(parts[split]) for split in SPLITS) == expected.splits
    assert expected.classes.items() <= dataset["classes"].items()
    assert tuple(dataset["ignore"]) == expected.ignore
    # Every label has a place: nothing is left for `prepare` to refuse.
    table = folder.labels(settings)
    for pair in pairs:
        if pair.mask:
            table.indices(folder.Decode(tmp_path, pair, table.colours)().mask)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: picture(1), Kind.PICTURE),
        (lambda: picture(1).convert("L"), Kind.PICTURE),
        (lambda: Image.fromarray(labels(1, 0, 1, 2).astype(np.uint8)), Kind.LABELS),
        (lambda: Image.fromarray(labels(1, 0, 700).astype(np.uint16)), Kind.LABELS),
        (lambda: colours(labels(1, 0, 1), {0: "#000000", 1: "#80ff00"}), Kind.COLOURS),
    ],
    ids=["colour picture", "grey picture", "labels", "labels of 16 bits", "colours"],
)
def test_pictures_and_masks_are_told_apart_by_content(
    made: Callable[[], Image.Image], kind: Kind, tmp_path: Path
):
    write(tmp_path / "a.png", made())
    seen = contents.look(tmp_path / "a.png")
    assert seen is not None
    assert (seen.kind, seen.size) == (kind, (40, 56))
    (tmp_path / "b.png").write_text("no image")
    assert contents.look(tmp_path / "b.png") is None


def test_values_are_counted_with_the_share_at_borders(tmp_path: Path):
    mask = np.zeros((4, 6), int)
    mask[1:3, 2:4] = 255
    write(tmp_path / "a.png", mask)
    write(tmp_path / "b.png", np.zeros((4, 6), int))
    (tmp_path / "c.png").write_text("no image")
    found = contents.values([tmp_path / f"{name}.png" for name in "abc"])
    assert found.pixels == {0: 44, 255: 4}
    assert found.masks == {0: 2, 255: 1}
    # Up and down, left and right of the four.
    assert found.borders == {0: 8 / 44, 255: 1.0}
    assert (found.read, found.of, found.broken) == (2, 3, [tmp_path / "c.png"])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(360, 480)] * 3, ([192, 256], "stretch")),
        ([(64, 96), (64, 96)], ([64, 96], "stretch")),
        ([(500, 500), (512, 500)], (224, "stretch")),
        ([(375, 500), (500, 375)], (224, "pad")),
    ],
)
def test_pictures_of_one_shape_keep_it_and_others_are_padded(sizes, expected):
    assert params.image_size(sizes) == expected


def test_many_folders_are_groups_and_few_are_not(tmp_path: Path):
    for folders in (3, 12):
        pairs = [(f"p/{n % folders}/{n}.jpg", f"m/{n}.png") for n in range(60)]
        assert splitting(tmp_path, pairs).settings.get("group") == ("^.*/" if folders > 9 else None)


@pytest.mark.parametrize(
    ("folder", "told"), [("nowhere", "nowhere is not a folder"), (".", "holds this project")]
)
def test_a_wrong_folder_is_told(folder: str, told: str, demo: Project):
    done = demo.command("new", folder, check=False)
    assert done.returncode == 1
    assert told in done.stderr


def test_a_folder_without_pictures_or_without_masks_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="holds no pictures"):
        described(tmp_path)
    for number in range(3):
        write(tmp_path / f"images/{number}.jpg", picture(number))
    with pytest.raises(UserError, match=r"no pictures in .* it holds 3 pictures images/\*\.jpg"):
        described(tmp_path)


def test_the_profile_stays_as_it_is_but_for_its_data_set():
    profile = (ROOT / "profiles/folder.yaml").read_text()
    dataset = {"source": "folder", "classes": {0: "no", 1: "a: b"}, "ignore": [255], "root": "é"}
    text = params.written(profile, dataset, "Made.")
    before, after = (yaml.safe_load(content) for content in (profile, text))
    assert after.pop("dataset") == dataset
    del before["dataset"]
    assert after == before
    assert text.startswith("# Made.\nseed: 27\n")
    assert text.count("#") > 20


@pytest.fixture
def demo(fresh_project: Project) -> Project:
    """A project with the demo's reports and lock file, as a clone has them."""
    for name in ("fcn8s", "comparison"):
        (fresh_project.folder / f"reports/{name}").mkdir(parents=True)
        (fresh_project.folder / f"reports/{name}/metrics.json").write_text('{"mean_iou": 0.5}\n')
    (fresh_project.folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    fresh_project.commit()
    return fresh_project


def test_after_it_check_finds_nothing_and_nothing_of_the_demo_is_left(demo: Project):
    LAYOUTS["supervisely"](demo.folder / "data/pictures")
    told = demo.command("new", "data/pictures").stdout
    assert "data/pictures/: 40 pictures with masks" in told
    assert "classes: 3, names from classes.txt" in told
    assert "look at: validation has 6 pictures: too few to measure anything" in told
    assert (demo.folder / "data/pictures.dvc").exists()
    assert not (demo.folder / "dvc.lock").exists()
    assert [path.name for path in (demo.folder / "reports").iterdir()] == ["vega"]
    variants = demo.params["variants"]
    assert {"fcn8s", "mlp"} <= set(variants)
    assert {variant["backbone"] for variant in variants.values()} == {"lite0"}
    assert "params.yaml is valid" in demo.stage("check").stdout


def test_it_writes_over_nothing_that_git_does_not_have(demo: Project):
    LAYOUTS["flat"](demo.folder / "data/pictures")
    metrics = demo.folder / "reports/fcn8s/metrics.json"
    metrics.write_text('{"mean_iou": 0.9}\n')
    params_before = (demo.folder / "params.yaml").read_text()
    done = demo.command("new", "data/pictures", check=False)
    assert done.returncode == 1
    assert "Git does not have the changes of reports/fcn8s/metrics.json" in done.stderr
    assert metrics.exists()
    assert (demo.folder / "params.yaml").read_text() == params_before
    demo.command("new", "data/pictures", "--force")
    assert not metrics.exists()
