"""Source `annotations`: masks from the outlines that annotation tools write."""

import base64
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.prepare import stage as prepare
from stages.prepare.settings import AnnotationsSource
from stages.prepare.sources import annotations
from stages.shared.formats.pictures import BadPictureError
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import PictureReader
from stages.shared.runtime.carried import to_another_machine
from stages.shared.runtime.errors import UserError
from tests.conftest import encoded

HEIGHT, WIDTH = 40, 60
SHARES = {"by": "fraction", "train": 0.6, "validation": 0.2, "test": 0.2}
FOLDERS = {"by": "folder", "train": "train", "validation": "valid", "test": "test"}
NAMES = ["cat", "dog"]


def settings(root: Path, form: str, **changes: Any) -> AnnotationsSource:
    patterns = {"coco": "**/*.json", "yolo": "labels/**/*.txt", "labelme": "**/*.json"}
    values: dict[str, Any] = {
        "source": "annotations",
        "root": str(root),
        "format": form,
        "pictures": "images/**/*.png",
        "annotations": patterns[form],
        "splits": SHARES,
        "image_size": [HEIGHT, WIDTH],
        "shard_size": 4,
        "bad_pictures": "stop",
    }
    return AnnotationsSource.model_validate(values | changes)


def write_picture(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(np.zeros((*size, 3), np.uint8), "PNG"))


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    """The outline of the pixels [top:bottom, left:right]."""
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run lengths of a mask, column by column, the first of zeros."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def ring() -> np.ndarray:
    """A square with a hole."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:25, 10:30] = 1
    mask[10:20, 15:25] = 0
    return mask


def coco(*objects: dict[str, Any], pictures: int = 1, folder: str = "") -> dict[str, Any]:
    """COCO's JSON of objects on the first picture."""
    return {
        "images": [
            {"id": n, "file_name": f"{folder}{n}.png", "width": WIDTH, "height": HEIGHT}
            for n in range(pictures)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 100 + n, "image_id": 0} | annotation for n, annotation in enumerate(objects)
        ],
    }


def made(root: Path, content: dict[str, Any], pictures: int = 1) -> AnnotationsSource:
    for number in range(pictures):
        write_picture(root / f"images/{number}.png")
    (root / "annotations.json").write_text(json.dumps(content))
    return settings(root, "coco")


def mask_of(given: AnnotationsSource, name: str = "images/0.png") -> np.ndarray:
    """The class names in a picture's mask, object (height, width); None for what is ignored."""
    labels = annotations.labels(given)
    examples = [e for part in annotations.examples(given, 0).values() for e in part]
    (example,) = (e for e in examples if e.name == name)
    indices = labels.indices(example.decode().mask)
    classes = np.array([*labels.classes, *[None] * (IGNORED + 1 - len(labels.classes))], object)
    return classes[indices]


def expected(*regions: tuple[str | None, np.ndarray | tuple[slice, slice]]) -> np.ndarray:
    """Class names: background, then each region on those before."""
    mask = np.full((HEIGHT, WIDTH), "background", object)
    for name, where in regions:
        mask[where] = name
    return mask


def test_polygons_of_an_object_are_its_parts_and_the_smaller_object_lies_on_top(tmp_path: Path):
    small = {"category_id": 7, "segmentation": [box(20, 10, 26, 16)]}
    large = {"category_id": 3, "segmentation": [box(10, 5, 40, 30), box(45, 0, 50, 5)]}
    given = made(tmp_path, coco(small, large))
    np.testing.assert_array_equal(
        mask_of(given),
        expected(
            ("cat", np.s_[5:30, 10:40]), ("cat", np.s_[0:5, 45:50]), ("dog", np.s_[10:16, 20:26])
        ),
    )
    # The categories' order is that of their ids.
    assert annotations.labels(given).classes == ["background", "cat", "dog"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_hole_in_run_lengths_is_a_hole(compressed: bool, tmp_path: Path):
    rle = runs(ring())
    if compressed:
        from pycocotools import mask

        packed = mask.frPyObjects(rle, HEIGHT, WIDTH)["counts"].decode()
        rle = rle | {"counts": packed}
    given = made(tmp_path, coco({"category_id": 3, "segmentation": rle}))
    np.testing.assert_array_equal(mask_of(given), expected(("cat", ring().astype(bool))))


def test_a_crowd_is_ignored_but_where_an_object_is_known(tmp_path: Path):
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[0:10, 0:10] = 1
    given = made(
        tmp_path,
        coco(
            {"category_id": 3, "segmentation": [box(5, 5, 30, 30)]},
            {"category_id": 3, "segmentation": runs(crowd), "iscrowd": 1},
        ),
    )
    known = expected((None, np.s_[0:10, 0:10]), ("cat", np.s_[5:30, 5:30]))
    np.testing.assert_array_equal(mask_of(given), known)


def test_categories_are_chosen_and_ignored_by_name_and_the_background_too(tmp_path: Path):
    cat = {"category_id": 3, "segmentation": [box(0, 0, 20, 20)]}
    dog = {"category_id": 7, "segmentation": [box(30, 0, 40, 10)]}
    given = made(tmp_path, coco(cat, dog))

    def seen(**changes: Any) -> np.ndarray:
        return mask_of(given.model_copy(update=changes))

    on_cat, on_dog = ("cat", np.s_[0:20, 0:20]), ("dog", np.s_[0:10, 30:40])
    np.testing.assert_array_equal(seen(classes=["dog"]), expected(on_dog))
    np.testing.assert_array_equal(seen(ignore=["dog"]), expected(on_cat, (None, on_dog[1])))
    rest = expected(on_cat, on_dog) == "background"
    np.testing.assert_array_equal(seen(background=None), expected(on_cat, on_dog, (None, rest)))
    with pytest.raises(UserError, match=r"names bird, which no annotation has; they have cat, dog"):
        seen(classes=["bird"])


def test_an_outline_that_stands_out_is_cut_off_at_the_edge(tmp_path: Path):
    given = made(tmp_path, coco({"category_id": 3, "segmentation": [box(50, 30, 90, 90)]}))
    np.testing.assert_array_equal(mask_of(given), expected(("cat", np.s_[30:, 50:])))


def test_a_slanted_edge_goes_on_to_where_it_leaves_the_picture(tmp_path: Path):
    """Below the line from the corner at the top left, which ends far outside."""
    outline = [0, 0, 200, 200, 0, 200]
    given = made(tmp_path, coco({"category_id": 3, "segmentation": [outline]}))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = mask_of(given) == "cat"
    assert found[y > x + 1].all()
    assert not found[y < x - 1].any()


def test_files_may_use_the_same_number_for_other_categories(tmp_path: Path):
    one = coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]})
    other = coco({"category_id": 3, "segmentation": [box(20, 0, 29, 9)]})
    other["categories"] = [{"id": 3, "name": "bird"}]
    given = made(tmp_path, one)
    (tmp_path / "other.json").write_text(json.dumps(other))
    np.testing.assert_array_equal(
        mask_of(given), expected(("cat", np.s_[0:9, 0:9]), ("bird", np.s_[0:9, 20:29]))
    )


def test_more_classes_than_a_mask_can_hold_are_refused_and_fewer_than_two(tmp_path: Path):
    content = coco(*({"category_id": n, "segmentation": [box(0, 0, 9, 9)]} for n in range(300)))
    content["categories"] = [{"id": n, "name": f"c{n}"} for n in range(300)]
    given = made(tmp_path, content)
    for changes, told in (
        ({}, "has classes: 301, with the background; there should be 2 to 255"),
        ({"background": None, "classes": ["c1"]}, "has classes: 1, "),
    ):
        with pytest.raises(UserError, match=told):
            annotations.labels(given.model_copy(update=changes))
    assert len(annotations.labels(given.model_copy(update={"classes": ["c1"]})).classes) == 2


def test_a_category_to_ignore_that_there_is_not_is_told(tmp_path: Path):
    given = made(tmp_path, coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}))
    with pytest.raises(UserError, match=r"dataset\.ignore names Cat, .* they have cat"):
        annotations.labels(given.model_copy(update={"ignore": ["Cat"]}))


def test_a_list_may_name_pictures_without_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    content = coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}, pictures=3)
    content["images"].append({"id": 9, "file_name": "lost.png"})
    given = made(tmp_path, content, pictures=5)
    lists = {"train": "0\n3\n", "validation": "1\n", "test": "4\n2\n"}
    for split, text in lists.items():
        (tmp_path / f"{split}.txt").write_text(text)
    named = {"by": "list"} | {split: f"{split}.txt" for split in lists}
    given = settings(tmp_path, "coco", splits=named)
    parts = annotations.examples(given, 0)
    assert [len(parts[split]) for split in lists] == [1, 1, 1]
    told = capsys.readouterr().out
    assert "without annotations, left out: images/3.png, images/4.png" in told
    assert "annotated, but not among images/**/*.png: lost.png" in told


def test_a_file_for_each_split_whose_paths_begin_elsewhere(tmp_path: Path):
    """As Roboflow writes them: the file lies beside its pictures."""
    for folder in ("train", "valid", "test"):
        write_picture(tmp_path / f"images/{folder}/0.png")
        content = coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}, folder="export/")
        path = tmp_path / f"images/{folder}/_annotations.coco.json"
        path.write_text(json.dumps(content))
    given = settings(tmp_path, "coco", splits=FOLDERS)
    with pytest.raises(UserError, match=r"0\.png may be .* or .*; name the folder in file_name"):
        annotations.examples(given, 0)
    for folder in ("train", "valid", "test"):
        path = tmp_path / f"images/{folder}/_annotations.coco.json"
        path.write_text(path.read_text().replace("export/", ""))
    parts = annotations.examples(given, 0)
    assert {split: [e.name for e in part] for split, part in parts.items()} == {
        "train": ["images/train/0.png"],
        "validation": ["images/valid/0.png"],
        "test": ["images/test/0.png"],
    }


def test_a_picture_that_no_file_names_is_left_out_and_one_without_objects_is_background(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    content = coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}, pictures=4)
    given = made(tmp_path, content, pictures=5)
    parts = annotations.examples(given, 0)
    assert sum(map(len, parts.values())) == 4
    assert "without annotations, left out: images/4.png" in capsys.readouterr().out
    np.testing.assert_array_equal(mask_of(given, "images/1.png"), expected())


def yolo(root: Path, lines: list[str]) -> AnnotationsSource:
    write_picture(root / "images/a.png")
    write_picture(root / "images/b.png")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images", "names": NAMES}))
    return settings(root, "yolo")


def test_yolo_s_polygons_are_shares_of_the_picture(tmp_path: Path):
    given = yolo(tmp_path, ["0 0 0 0.5 0 0.5 0.5 0 0.5", "1 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3"])
    np.testing.assert_array_equal(
        mask_of(given, "images/a.png"),
        expected(("cat", np.s_[0:20, 0:30]), ("dog", np.s_[4:12, 6:12])),
    )
    # No file: no object.
    np.testing.assert_array_equal(mask_of(given, "images/b.png"), expected())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 10 10 50 10 50 30", "labels/a.txt, line 1: the coordinate 50 is not a share"),
        ("0 0.5 0.5 0.2 0.2", "labels/a.txt, line 1: it is a box"),
        ("2 0 0 1 0 1 1", "labels/a.txt, line 1: class 2 has no name"),
        ("0 0 0 1 x 1 1", "labels/a.txt, line 1: could not convert"),
        ("0 0 0 1 0 1 1 1", "labels/a.txt, line 1: a polygon of 7 numbers"),
        ("0 0 0 1 0 nan 1", "labels/a.txt, line 1: a coordinate is not a finite number"),
    ],
)
def test_a_line_of_yolo_that_is_no_polygon_is_named(line: str, told: str, tmp_path: Path):
    given = yolo(tmp_path, [line])
    with pytest.raises(BadPictureError, match=re.escape(told)):
        mask_of(given, "images/a.png")
    with pytest.raises(UserError, match=re.escape(told)):
        annotations.check(given, 27)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"names": {0: "cat", 2: "dog"}}, None),
        ({"names": "cat"}, "data.yaml: names is 'cat'; it should be a list of names"),
        ({"names": 3}, "data.yaml: names is 3; it should be"),
        ({"classes": ["cat"]}, "none has them"),
        ("names: [", "data.yaml is no YAML"),
    ],
    ids=["a gap", "a text", "a number", "none", "no YAML"],
)
def test_yolo_s_names_have_their_numbers(content: Any, told: str | None, tmp_path: Path):
    given = yolo(tmp_path, ["2 0 0 0.5 0 0.5 0.5 0 0.5"])
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (tmp_path / "data.yaml").write_text(text)
    if told:
        with pytest.raises(UserError, match=re.escape(told)):
            annotations.check(given, 27)
    else:
        np.testing.assert_array_equal(
            mask_of(given, "images/a.png"), expected(("dog", np.s_[0:20, 0:30]))
        )


def test_a_pair_of_folders_for_each_split_in_braces(tmp_path: Path):
    for folder, number in (("train", 0), ("val", 1)):
        write_picture(tmp_path / f"images/{folder}/a.png")
        (tmp_path / f"labels/{folder}").mkdir(parents=True)
        (tmp_path / f"labels/{folder}/a.txt").write_text(f"{number} 0 0 0.5 0 0.5 0.5 0 0.5")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"names": NAMES}))
    patterns = {"pictures": "images/{train,val}/*.png", "annotations": "labels/{train,val}/*.txt"}
    given = settings(tmp_path, "yolo", **patterns)
    for folder, name in (("train", "cat"), ("val", "dog")):
        np.testing.assert_array_equal(
            mask_of(given, f"images/{folder}/a.png"), expected((name, np.s_[0:20, 0:30]))
        )


def labelme(root: Path, *shapes: dict[str, Any]) -> AnnotationsSource:
    write_picture(root / "images/0.png")
    content = {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": "0.png"}
    (root / "images/0.json").write_text(json.dumps(content))
    return settings(root, "labelme")


def test_labelme_s_shapes(tmp_path: Path):
    hole = base64.b64encode(encoded(ring()[5:25, 10:30] * 255, "PNG")).decode()
    given = labelme(
        tmp_path,
        {"label": "a", "points": [[0, 0], [8, 0], [8, 8], [0, 8]], "shape_type": "polygon"},
        {"label": "b", "points": [[60, 40], [50, 30]], "shape_type": "rectangle"},
        {"label": "c", "points": [[10, 5], [29, 24]], "shape_type": "mask", "mask": hole},
    )
    np.testing.assert_array_equal(
        mask_of(given),
        expected(("a", np.s_[0:8, 0:8]), ("b", np.s_[30:40, 50:60]), ("c", ring().astype(bool))),
    )


def test_a_circle_of_labelme_has_its_radius(tmp_path: Path):
    given = labelme(
        tmp_path, {"label": "a", "points": [[30, 20], [42, 20]], "shape_type": "circle"}
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(x - 30, y - 20)
    found = mask_of(given) == "a"
    assert found[distance < 11].all()
    assert not found[distance > 13].any()


def test_a_shape_without_an_area_is_told_if_its_label_counts(tmp_path: Path):
    square = {"label": "a", "points": [[0, 0], [8, 0], [8, 8], [0, 8]], "shape_type": "rectangle"}
    point = {"label": "b", "points": [[3, 3]], "shape_type": "point"}
    given = labelme(tmp_path, square, point)
    with pytest.raises(UserError, match=r"0\.json, shape 2: a point has no area; known are poly"):
        annotations.check(given, 27)
    only = given.model_copy(update={"classes": ["a"]})
    np.testing.assert_array_equal(mask_of(only), expected(("a", np.s_[0:8, 0:8])))


LABELME_BROKEN: list[tuple[Any, str]] = [
    ("x", "is no JSON"),
    ([], "it: "),
    ({"shapes": None}, "shapes: "),
    ({"shapes": ["x"]}, "shape 1: "),
    ({"shapes": [{"label": "a", "points": [[1, 2, 3]]}]}, "shape 1: "),
    ({"shapes": [], "imageHeight": 0}, "imageHeight: "),
    ({"shapes": [{"label": "a", "points": [], "shape_type": "mask"}]}, "it is no mask"),
    ({"shapes": [{"label": "a", "points": [], "shape_type": "circle"}]}, "it is no circle"),
    ({"shapes": [{"label": "a", "points": [], "shape_type": "rectangle"}]}, "it is no rectangle"),
    ({"shapes": [{"label": "a", "points": [[1, 1]]}]}, "a polygon of 2 numbers"),
]


@pytest.mark.parametrize(("content", "told"), LABELME_BROKEN, ids=range(len(LABELME_BROKEN)))
def test_a_file_that_is_not_labelme_s_is_told(content: Any, told: str, tmp_path: Path):
    given = labelme(tmp_path)
    sizes = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    text = json.dumps(sizes | content) if isinstance(content, dict) else json.dumps(content)
    (tmp_path / "images/0.json").write_text("{" if content == "x" else text)
    with pytest.raises(UserError, match=re.escape(told)):
        annotations.check(given, 27)


BROKEN: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c["annotations"][0].update(category_id=99), "annotation 100: no category has"),
    (lambda c: c["annotations"][0].update(image_id=99), "annotation 100: no image has the id 99"),
    (lambda c: c["annotations"][0].update(segmentation="x"), "annotation 100: segmentation: "),
    (lambda c: c["annotations"][0].pop("image_id"), "annotation 100: image_id: "),
    (lambda c: c.pop("categories"), "annotations.json, categories: Field required"),
    (lambda c: c.update(images=["a.png"]), "annotations.json, image 0: "),
    (lambda c: c.update(annotations={}), "annotations.json, annotations: "),
    (
        lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]),
        "annotation 100: the coordinate 1e+09 is not a place in the picture",
    ),
    (lambda c: c["images"][0].pop("file_name"), "image 0: file_name: "),
    (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "a polygon of 4 numbers"),
    (lambda c: c["annotations"][0].update(segmentation=[]), "annotation 100: it has no outline"),
    (
        lambda c: c["annotations"][0].update(segmentation={"size": [40, 60], "counts": [5]}),
        "annotation 100: its run lengths add up to 5, not 40 x 60",
    ),
    (
        lambda c: c["annotations"][0].update(segmentation={"size": [4, 6], "counts": [24]}),
        "annotation 100: its run lengths are of",
    ),
    (
        lambda c: c["annotations"][0].update(segmentation={"size": [40, 60], "counts": "~~~~"}),
        "annotation 100: ",
    ),
    (lambda c: c["images"][0].update(width=61), "its annotations are of 61 x 40 pixels"),
]


@pytest.mark.parametrize(("breaks", "told"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_wrong_is_told_with_the_annotation_at_fault(
    breaks: Callable[[dict[str, Any]], Any], told: str, tmp_path: Path
):
    content = coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}, pictures=3)
    breaks(content)
    given = made(tmp_path, content, pictures=3)
    with pytest.raises(UserError, match=re.escape(told)):
        annotations.check(given, 27)


def test_a_file_that_is_no_json_is_named(tmp_path: Path):
    given = made(tmp_path, coco())
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(UserError, match=r"annotations\.json is no JSON"):
        annotations.check(given, 27)


def test_annotations_of_the_unturned_picture_are_for_it(tmp_path: Path):
    """Tools that pass over EXIF's orientation draw on the picture as it is stored."""
    given = made(tmp_path, coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "images/0.png"
    Image.open(path).save(path, exif=exif)
    (example,) = (e for part in annotations.examples(given, 0).values() for e in part)
    decoded = example.decode()
    assert decoded.image.shape[:2] == decoded.mask.shape == (HEIGHT, WIDTH)
    assert decoded.doubts == ("unturned",)


@pytest.mark.parametrize(
    ("orientation", "shapes", "doubts"),
    [(1, True, ()), (0, True, ()), (3, True, ("either",)), (3, False, ())],
    ids=["not turned", "no orientation of EXIF's", "turned", "turned, without shapes"],
)
def test_annotations_that_fit_a_turned_picture_either_way_are_doubtful(
    orientation: int, shapes: bool, doubts: tuple[str, ...], tmp_path: Path
):
    drawn = {"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}
    given = made(tmp_path, coco(*[drawn] * shapes))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "images/0.png"
    Image.open(path).save(path, exif=exif)
    (example,) = (e for part in annotations.examples(given, 0).values() for e in part)
    assert example.decode().doubts == doubts


def test_an_example_takes_its_picture_and_shapes_along_to_another_machine(tmp_path: Path):
    given = made(tmp_path, coco({"category_id": 3, "segmentation": [box(0, 0, 9, 9)]}))
    (example,) = (e for part in annotations.examples(given, 0).values() for e in part)
    here, mask = pickle.dumps(example), example.decode().mask
    with to_another_machine():
        packed = pickle.dumps(example)
    np.testing.assert_array_equal(pickle.loads(here).decode().mask, mask)
    (tmp_path / "images/0.png").unlink()
    np.testing.assert_array_equal(pickle.loads(packed).decode().mask, mask)


def test_prepare_writes_records_of_the_painted_masks(tmp_path: Path, monkeypatch):
    content = coco({"category_id": 3, "segmentation": [box(0, 0, 30, 20)]}, pictures=10)
    for annotation, number in zip(content["annotations"] * 10, range(10), strict=True):
        content["annotations"].append(annotation | {"id": number, "image_id": number})
    given = made(tmp_path / "pictures", content, pictures=10)
    monkeypatch.chdir(tmp_path)
    params = {"seed": 1, "dataset": given.model_dump(mode="json")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    prepare.prepare()
    dataset = Dataset.load()
    assert dataset.classes == ["background", "cat"]
    for split in ("train", "validation", "test"):
        _, image, mask = PictureReader(dataset, split)[0]
        assert image.shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(mask, expected(("cat", np.s_[0:20, 0:30])) == "cat")
