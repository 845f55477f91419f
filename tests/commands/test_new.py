"""make new: params.yaml from a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import yaml
from PIL import Image

from commands.new import contents, layout, params
from commands.new.command import described, pictures_of_splits
from commands.new.contents import Kind
from commands.new.splitting import splitting
from stages.prepare.settings import AnnotationsSource, FolderSource
from stages.prepare.sources import annotations, folder
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS
from tests.commands.layouts import ANNOTATED, LAYOUTS, SIZE, coco, colours, labels, picture, write
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
            table.indices(folder.contents(settings, pair)().mask)


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
    assert contents.look(tmp_path / "a.png") is kind
    (tmp_path / "b.png").write_text("no image")
    assert contents.look(tmp_path / "b.png") is None


def test_values_are_counted_with_the_share_at_borders(tmp_path: Path):
    mask = np.zeros((4, 6), int)
    mask[1:3, 2:4] = 255
    write(tmp_path / "a.png", mask)
    write(tmp_path / "b.png", np.zeros((4, 6), int))
    (tmp_path / "c.png").write_text("no image")
    found = contents.values([tmp_path / f"{name}.png" for name in "abc"], Kind.LABELS)
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


@pytest.mark.parametrize(("times", "told"), [(1, False), (25, True)])
def test_tiles_are_named_where_pictures_become_much_smaller(times, told, tmp_path: Path):
    LAYOUTS["supervisely"](tmp_path)
    for path in (p for p in tmp_path.rglob("*") if p.suffix in {".png", ".jpg"}):
        with Image.open(path) as image:
            size = image.width * times, image.height * times
            image.resize(size, Image.Resampling.NEAREST).save(path)
    assert any("fit: tiles keeps the scale" in doubt for doubt in described(tmp_path)[1]) == told


def test_a_picture_that_exif_turns_is_as_high_as_it_is_shown(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(tmp_path / "a.jpg", exif=exif)
    picture(1).save(tmp_path / "b.jpg")
    assert list(contents.sizes([tmp_path / "a.jpg", tmp_path / "b.jpg"])) == [(56, 40), (40, 56)]


# What a file of names holds, and what is read of it for the labels 0, 1 and 2.
NAME_FILES = {
    "a name a line": ("sky\nroad\ntraffic light\n", {0: "sky", 1: "road", 2: "traffic light"}),
    "numbers and colons": ("0: sky\n1: street sign\n2: stop sign\n", "sky,street sign,stop sign"),
    "numbers": ("# names\n0 sky\n1 road\n2 car\n", "sky,road,car"),
    "titles": ("name,id\nsky,0\nroad,1\ncar,2\n", "sky,road,car"),
    "a table of ADE20K": (
        "Idx\tRatio\tName\n0\t0.1\tsky\n1\t0.2\troad, way\n2\t0.3\tcar\n",
        "sky,road,car",
    ),
    "too few": ("sky\nroad\n", "class 0,class 1,class 2"),
    "colours": ("name,r,g,b\nsky,1,2,3\nroad,4,5,6\ncar,7,8,9\n", "class 0,class 1,class 2"),
}


@pytest.mark.parametrize("kind", NAME_FILES)
def test_class_names_are_read_from_the_files_that_people_have(kind: str, tmp_path: Path):
    text, expected = NAME_FILES[kind]
    LAYOUTS["supervisely"](tmp_path)
    (tmp_path / "classes.txt").write_text(text)
    named = expected if isinstance(expected, dict) else dict(enumerate(expected.split(",")))
    assert described(tmp_path)[0]["classes"] == named


def test_names_of_colours_are_read_as_camvid_has_them(tmp_path: Path):
    LAYOUTS["in_colours"](tmp_path)
    (tmp_path / "class_dict.csv").unlink()
    (tmp_path / "label_colors.txt").write_text("0 0 0\t\tVoid\n128 0 255\tTree\n0 255 128\tSky\n")
    assert described(tmp_path)[0]["classes"] == {
        "#000000": "Void",
        "#8000ff": "Tree",
        "#00ff80": "Sky",
    }


# What else has the colours' names.
COLOUR_FILES = {
    "labelmap.txt": "# label:color_rgb:parts\nVoid:0,0,0::\nTree:128,0,255::\nSky:0,255,128::\n",
    "legend.txt": "Void #000000\nTree #8000FF\nSky #00ff80\n",
    "class_colors.csv": "name,color\nVoid,#000000\nTree,#8000ff\nSky,#00ff80\n",
}


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_names_of_colours_are_read_from_other_tools_files(name: str, tmp_path: Path):
    LAYOUTS["in_colours"](tmp_path)
    (tmp_path / "class_dict.csv").unlink()
    (tmp_path / name).write_text(COLOUR_FILES[name])
    dataset, doubts = described(tmp_path)
    assert list(dataset["classes"].values()) == ["Void", "Tree", "Sky"]
    assert not any("colour" in doubt for doubt in doubts)


def test_a_colour_without_a_name_is_told(tmp_path: Path):
    LAYOUTS["in_colours"](tmp_path)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nVoid,0,0,0\nTree,128,0,255\n")
    dataset, doubts = described(tmp_path)
    assert dataset["classes"]["#8000ff"] == "colour #8000ff"
    told = "class_dict.csv has no name for #00ff80; the classes are called after their colours"
    assert told in doubts


def test_pictures_that_come_later_in_new_folders_are_found(tmp_path: Path):
    """Two sites take pictures today, with the same names; a third does tomorrow."""

    def add(site: str, day: str) -> None:
        for number in range(12):
            where = f"{site}/{day}/{number:03}"
            write(tmp_path / f"images/{where}.jpg", picture(number))
            write(tmp_path / f"labels/{where}_mask.png", labels(number, 0, 1, 2))

    add("north", "monday")
    add("south", "monday")
    dataset, _ = described(tmp_path)
    assert dataset["pictures"] == "images/*/monday/*.jpg"
    add("west", "monday")
    pairs, _ = folder.found(FolderSource.model_validate(dataset), seed=1)
    assert len([pair for pair in pairs if pair.mask]) == 36


def test_a_folder_s_own_names_come_before_those_of_a_published_data_set(tmp_path: Path):
    LAYOUTS["pet"](tmp_path)
    assert any("taken for those of Oxford-IIIT Pet" in doubt for doubt in described(tmp_path)[1])
    (tmp_path / "classes.txt").write_text("1 fur\n2 grass\n3 edge\n")
    dataset, doubts = described(tmp_path)
    assert dataset["classes"] == {1: "fur", 2: "grass", 3: "edge"}
    assert not doubts


def pairs_found(root: Path) -> tuple[int, list[str]]:
    """How many pictures with masks a folder's settings find, and what should be looked at."""
    dataset, doubts = described(root)
    pairs, _ = folder.found(FolderSource.model_validate(dataset), seed=1)
    return len([pair for pair in pairs if pair.mask]), doubts


def test_words_at_the_end_of_names_are_no_other_kind_of_file(tmp_path: Path):
    for number in range(12):
        for side in ("left", "right"):
            write(tmp_path / f"images/{number:03}_{side}.jpg", picture(number))
            extension = "png" if number % 2 else "PNG"
            write(tmp_path / f"masks/{number:03}_{side}.{extension}", labels(number, 0, 1))
    assert pairs_found(tmp_path)[0] == 24


def test_what_lies_beside_the_pictures_is_left_out_and_told(tmp_path: Path):
    for number in range(12):
        write(tmp_path / f"{number:03}.png", picture(number))
        write(tmp_path / f"{number:03}_overlay.png", picture(number + 50))
        write(tmp_path / f"{number:03}_mask.png", labels(number, 0, 1))
    found, doubts = pairs_found(tmp_path)
    assert found == 12
    assert any("12 files that the patterns find have no partner" in doubt for doubt in doubts)


def test_the_field_of_view_of_a_lens_is_no_truth(tmp_path: Path):
    """As DRIVE has it: the masks of a folder `mask` are the same disc for each picture."""
    disc = np.hypot(*np.mgrid[-20:20, -28:28]) < 19
    for split, part in (("training", range(20)), ("test", range(20, 40))):
        for number in part:
            name = f"{number:02}_{split}"
            write(tmp_path / f"{split}/images/{name}.tif", picture(number))
            write(tmp_path / f"{split}/1st_manual/{number:02}_manual1.gif", labels(number, 0, 255))
            field = disc.astype(int) * 255
            field[number % 3] = 0
            write(tmp_path / f"{split}/mask/{name}_mask.gif", field)
    dataset, _ = described(tmp_path)
    assert dataset["masks"] == "{test,training}/1st_manual/*_manual1.gif"
    assert (dataset["splits"]["train"], dataset["splits"]["test"]) == ("training", "test")
    assert pairs_found(tmp_path)[0] == 40


def test_masks_of_rare_objects_are_not_taken_for_alike(tmp_path: Path):
    for number in range(4):
        mask = np.zeros((200, 200), int)
        mask[10 * number : 10 * number + 5, 50:60] = 1
        write(tmp_path / f"rare{number}.png", mask)
        write(tmp_path / f"same{number}.png", np.pad(np.ones((100, 100), int), 50))
    assert not contents.alike(sorted(tmp_path.glob("rare*")))
    assert contents.alike(sorted(tmp_path.glob("same*")))


def test_where_objects_are_rare_all_masks_may_look_empty(tmp_path: Path):
    """A name file that begins at 1 leaves 0 without a name."""
    for number in range(120):
        write(tmp_path / f"images/{number:03}.jpg", picture(number))
        mask = labels(number, 0, *([1, 2] if number in (40, 41, 80, 81) else []))
        write(tmp_path / f"masks/{number:03}.png", mask)
    (tmp_path / "classes.txt").write_text("1: scratch\n2: dent\n")
    dataset, doubts = described(tmp_path)
    assert (dataset["classes"], dataset["ignore"]) == ({1: "scratch", 2: "dent"}, [0])
    assert pairs_found(tmp_path)[0] == 120
    assert any("0 has no name and is ignored" in doubt for doubt in doubts)


def test_masks_of_one_label_are_told(tmp_path: Path):
    for number in range(12):
        write(tmp_path / f"images/{number:03}.jpg", picture(number))
        write(tmp_path / f"masks/{number:03}.png", labels(number, 1))
    with pytest.raises(UserError, match="hold nothing but 1, and there should be two classes"):
        described(tmp_path)


@pytest.mark.parametrize("where", ["{kind}/{video}", "{video}/{kind}"])
def test_each_of_many_videos_has_its_own_masks(where: str, tmp_path: Path, monkeypatch):
    """Files have the same names in all of them; only near groups are compared."""
    monkeypatch.setattr(layout, "MANY", 5)
    monkeypatch.setattr(layout, "likeness", counted := Mock(wraps=layout.likeness))
    for video in range(12):
        for frame in range(3):
            for kind, made in (("frames", picture(video)), ("annotated", labels(video, 0, 1))):
                within = where.format(kind=kind, video=f"video{video}")
                extension = "jpg" if kind == "frames" else "png"
                write(tmp_path / within / f"{frame:05}.{extension}", made)
    dataset, _ = described(tmp_path)
    pairs, _ = folder.found(FolderSource.model_validate(dataset), seed=1)
    assert len(pairs) == 36
    for pair in pairs:
        assert pair.picture.split("/")[where.startswith("{kind}")].startswith("video")
        assert pair.picture.replace("frames", "annotated").replace("jpg", "png") == pair.mask
    assert counted.call_count < 12 * 12


def test_pictures_without_masks_take_none_of_another_folder(tmp_path: Path):
    for number in range(12):
        write(tmp_path / f"train/images/{number:03}.jpg", picture(number))
        write(tmp_path / f"train/masks/{number:03}.png", labels(number, 0, 1))
        write(tmp_path / f"test/images/{number:03}.jpg", picture(number + 50))
    dataset, _ = described(tmp_path)
    assert (dataset["pictures"], dataset["masks"]) == ("train/images/*.jpg", "train/masks/*.png")
    assert pairs_found(tmp_path)[0] == 12


def test_folders_with_marks_of_patterns_in_their_names(tmp_path: Path):
    for name in ("images [raw]", "a, b"):
        for number in range(12):
            write(tmp_path / name / f"{number:03}.jpg", picture(number))
            write(tmp_path / name / f"{number:03}_mask.png", labels(number, 0, 1))
    assert pairs_found(tmp_path)[0] == 24


@pytest.mark.parametrize("text", ["filename\n{}", "{}", "{}\nnowhere"])
def test_lists_that_prepare_would_refuse_are_not_taken(text: str, tmp_path: Path):
    LAYOUTS["one_class"](tmp_path)
    for split, part in (("train", range(30)), ("test", range(25, 40))):
        lines = "\n".join(f"{number:03}" for number in part)
        (tmp_path / f"{split}.txt").write_text(text.format(lines))
    dataset, doubts = described(tmp_path)
    assert dataset["splits"]["by"] == "fraction"
    assert any("test.txt, train.txt may be splits" in doubt for doubt in doubts)


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


@pytest.mark.parametrize("name", ANNOTATED)
def test_annotations_are_found_with_their_splits_and_categories(name: str, tmp_path: Path):
    format, made = ANNOTATED[name]
    expected = made(tmp_path)
    dataset, _ = described(tmp_path)
    assert (dataset["source"], dataset["format"]) == ("annotations", format)
    settings = AnnotationsSource.model_validate(dataset)
    examples = annotations.examples(settings, seed=1)
    assert tuple(len(examples[split]) for split in SPLITS) == expected
    table = annotations.labels(settings)
    assert table.classes == ["background", "cat", "dog"]
    for example in (example for part in examples.values() for example in part):
        found = np.unique(table.indices(example.decode().mask))
        assert len(found) == 2
        assert found[0] == 0


@pytest.mark.parametrize("name", ANNOTATED)
def test_annotations_in_a_folder_of_the_project_are_found(name: str, tmp_path: Path, monkeypatch):
    """`make new` gives the folder relative to the project."""
    expected = ANNOTATED[name][1](tmp_path / "data/pictures")
    monkeypatch.chdir(tmp_path)
    dataset, _ = described(Path("data/pictures"))
    assert (dataset["root"], dataset["format"]) == ("data/pictures", ANNOTATED[name][0])
    assert tuple(pictures_of_splits(dataset).values()) == expected


def test_pictures_without_an_object_may_have_empty_files(tmp_path: Path):
    ANNOTATED["ultralytics"][1](tmp_path)
    paths = sorted((tmp_path / "labels/val").glob("*.txt"))
    for path in paths[:6]:
        path.write_text("")
    paths[6].unlink()
    # As LabelImg writes them.
    for split in ("train", "val"):
        (tmp_path / f"labels/{split}/classes.txt").write_text("cat\ndog\n")
    dataset, doubts = described(tmp_path)
    assert dataset["annotations"] == "labels/{train,val}/*.txt"
    assert any("without annotations, which are background: 1" in doubt for doubt in doubts)
    examples = annotations.examples(AnnotationsSource.model_validate(dataset), seed=1)
    assert len(examples["test"]) == len(paths)


@pytest.mark.parametrize("shape_type", ["line", "point"])
def test_a_shape_without_an_area_is_told(shape_type: str, tmp_path: Path):
    ANNOTATED["labelme"][1](tmp_path)
    path = tmp_path / "007.json"
    content = json.loads(path.read_text())
    content["shapes"][0]["shape_type"] = shape_type
    path.write_text(json.dumps(content))
    assert any("007.jpg: 007.json, shape 1" in doubt for doubt in described(tmp_path)[1])


def test_numbers_that_are_no_polygons_are_no_annotations(tmp_path: Path):
    for number in range(5):
        write(tmp_path / f"{number}.jpg", picture(number))
        (tmp_path / f"{number}.txt").write_text("1 2 3 4 5 6 7 8\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    with pytest.raises(UserError, match=r"no pictures in .* have masks"):
        described(tmp_path)


def test_a_deep_picture_without_a_number_has_no_black_and_white(tmp_path: Path):
    for number in range(3):
        values = np.linspace(0, number, 64, dtype=np.float32).reshape(8, 8)
        values[0, 0] = np.nan
        Image.fromarray(values if number else np.full_like(values, np.nan)).save(
            tmp_path / f"{number}.tif"
        )
    assert contents.greys(sorted(tmp_path.glob("*.tif"))) == pytest.approx([0.016, 2], abs=0.02)
    assert contents.greys([tmp_path / "0.tif"]) is None


def test_masks_are_taken_where_there_are_annotations_too(tmp_path: Path):
    LAYOUTS["supervisely"](tmp_path)
    coco(tmp_path, "ds0/instances.json", ["IMG_1.jpg"], lambda n: 1)
    assert described(tmp_path)[0]["source"] == "folder"


def test_boxes_alone_are_no_annotations_of_pixels(tmp_path: Path):
    ANNOTATED["cvat"][1](tmp_path)
    path = tmp_path / "annotations/instances_default.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation |= {"segmentation": [], "bbox": [8, 6, 32, 24]}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"no pictures in .* have masks"):
        described(tmp_path)


def test_black_and_white_of_deep_pictures_are_guessed_and_told(tmp_path: Path):
    for number in range(12):
        write(tmp_path / f"masks/{number}.png", labels(number, 0, 1))
        values = np.random.default_rng(number).integers(500, 4000, SIZE).astype(np.uint16)
        values[0, 0] = 65535
        (tmp_path / "scans").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / f"scans/{number}.png")
    dataset, doubts = described(tmp_path)
    black, white = dataset["greys"]
    assert 490 < black < 520
    assert 3950 < white < 4050
    assert any("more than 8 bits" in doubt for doubt in doubts)
    FolderSource.model_validate(dataset)


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
    text = params.written(profile, dataset, "Made.", pictures=1000)
    before, after = (yaml.safe_load(content) for content in (profile, text))
    assert after.pop("dataset") == dataset
    # 450 steps of 16 pictures are 7 epochs of 1,000.
    assert after["train"]["epochs"] == 10
    after["train"]["epochs"] = before["train"]["epochs"]
    del before["dataset"]
    assert after == before
    assert text.startswith("# Made.\nseed: 27\n")
    assert text.count("#") > 20


@pytest.mark.parametrize(("pictures", "epochs"), [(20, 30), (240, 30), (500, 14), (10**6, 10)])
def test_more_pictures_take_fewer_epochs(pictures: int, epochs: int):
    assert params.epochs(pictures, batch_size=16, most=30) == epochs


@pytest.fixture
def demo(fresh_project: Project) -> Project:
    """A project with the demo's reports and lock file, as a clone has them."""
    for name in ("fcn8s", "comparison"):
        (fresh_project.folder / f"reports/{name}").mkdir(parents=True)
        (fresh_project.folder / f"reports/{name}/metrics.json").write_text('{"mean_iou": 0.5}\n')
    outs = (
        "data/evaluation/fcn8s",
        "data/features/vgg19/head",
        "models/fcn8s",
        "data/dataset.json",
    )
    hashed = {"hash": "md5", "md5": "d41d8cd98f00b204e9800998ecf8427e", "size": 0}
    stage = {"cmd": "true", "outs": [{"path": out, **hashed} for out in outs]}
    lock = {"schema": "2.0", "stages": {"demo": stage}}
    (fresh_project.folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    for out in outs[:-1]:
        (fresh_project.folder / out).mkdir(parents=True)
        (fresh_project.folder / out / "weights.h5").write_bytes(b"the demo's")
    (fresh_project.folder / outs[-1]).write_text("{}")
    fresh_project.commit()
    return fresh_project


def test_after_it_check_finds_nothing_and_nothing_of_the_demo_is_left(demo: Project):
    LAYOUTS["supervisely"](demo.folder / "data/pictures")
    told = demo.command("new", "data/pictures").stdout
    assert "data/pictures/: 40 pictures with masks" in told
    assert "classes: 3, named in classes.txt" in told
    assert "look at: validation has 6 pictures: too few to measure anything" in told
    assert (demo.folder / "data/pictures.dvc").exists()
    assert not (demo.folder / "dvc.lock").exists()
    assert [path.name for path in (demo.folder / "reports").iterdir()] == ["vega"]
    for out in ("evaluation/fcn8s", "features/vgg19", "dataset.json"):
        assert not (demo.folder / "data" / out).exists()
    assert not (demo.folder / "models/fcn8s").exists()
    variants = demo.params["variants"]
    assert {"fcn8s", "mlp"} <= set(variants)
    assert {variant["backbone"] for variant in variants.values()} == {"lite0"}
    assert "params.yaml is valid" in demo.stage("check").stdout


def test_what_a_run_notes_of_the_machine_stands_in_no_way(demo: Project):
    packages = demo.folder / "reports/packages.json"
    packages.write_text("{}")
    demo.commit()
    packages.write_text('{"prepare": {"numpy": "2"}}')
    LAYOUTS["flat"](demo.folder / "data/pictures")
    assert "new: params.yaml is written" in demo.command("new", "data/pictures").stdout


def test_a_folder_that_holds_outputs_is_refused_before_anything_is_done(demo: Project):
    LAYOUTS["flat"](demo.folder / "data/pictures")
    before = (demo.folder / "params.yaml").read_text()
    done = demo.command("new", "data", check=False)
    assert done.returncode == 1
    assert "data holds outputs of the pipeline, such as data/evaluation/fcn8s" in done.stderr
    assert (demo.folder / "params.yaml").read_text() == before


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


def test_pictures_without_a_mask_do_not_count(tmp_path: Path):
    for number in range(40):
        write(tmp_path / f"images/{number:02}.jpg", picture(number))
        if number % 4 == 0:
            write(tmp_path / f"masks/{number:02}.png", labels(number, 0, 1))
    dataset, _ = described(tmp_path)
    assert dataset["bad_pictures"] == "skip"
    assert sum(pictures_of_splits(dataset).values()) == 10


def test_what_keeps_every_pattern_from_the_pictures_is_said(tmp_path: Path):
    for number in range(12):
        write(tmp_path / f"images/{number}.jpg", picture(number))
        write(tmp_path / f"masks/{number}.png", labels(number, 0, 1))
    (tmp_path / "images/gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError, match=r"images/gone\.jpg is a broken link to nowhere\.jpg"):
        described(tmp_path)
