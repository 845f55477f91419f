"""Folders as data sets and tools leave them: drawn pictures and masks in eleven layouts."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SIZE = (40, 56)
TRAIN, VALIDATION, TEST = 14, 10, 10
EVERY = TRAIN + VALIDATION + TEST


class Expected(NamedTuple):
    """What `make new` should find.

    Attributes:
        splits: pictures of each.
        classes: names of the classes, by label or colour.
        ignore: labels that are ignored.
    """

    splits: tuple[int, int, int]
    classes: dict[Any, str]
    ignore: tuple[Any, ...] = ()


def picture(number: int) -> Image.Image:
    """Soft colours and noise, so that no two pictures are alike."""
    rng = np.random.default_rng(number)
    ramp = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))[..., None]
    values = ramp * rng.uniform(0.5, 2, 3) + rng.normal(0, 9, (*SIZE, 3)) + 40
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def labels(number: int, *values: int, border: int | None = None) -> np.ndarray:
    """Rectangles of some labels on the first of them, with a border of another one round each."""
    rng = np.random.default_rng(number)
    mask = np.full(SIZE, values[0])
    for value in values[1:]:
        top, left = rng.integers(2, 14), rng.integers(2, 26)
        if border is not None:
            mask[top - 1 : top + 21, left - 1 : left + 25] = border
        mask[top : top + 20, left : left + 24] = value
    return mask


def write(path: Path, image: Image.Image | np.ndarray) -> None:
    """Write a picture, or a mask of labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = image if isinstance(image, Image.Image) else Image.fromarray(image.astype(np.uint8))
    made.save(path)


def colours(mask: np.ndarray, palette: dict[int, str]) -> Image.Image:
    """A mask in colours."""
    rgb = np.zeros((*mask.shape, 3), np.uint8)
    for label, colour in palette.items():
        rgb[mask == label] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return Image.fromarray(rgb)


def numbers(*counts: int) -> Iterator[range]:
    """Numbers of the pictures of each split, one after the other."""
    start = 0
    for count in counts:
        yield range(start, start + count)
        start += count


def voc(root: Path) -> Expected:
    """Palettes, borders of 255, masks of objects beside, pictures without masks, lists of stems."""
    splits = dict(zip(("train", "val"), numbers(TRAIN, VALIDATION), strict=True))
    for number in range(TRAIN + VALIDATION + 20):
        write(root / f"JPEGImages/2007_{number:06}.jpg", picture(number))
    for split, part in splits.items():
        for number in part:
            kinds = {"SegmentationClass": (0, 15, 8), "SegmentationObject": (0, 1, 2)}
            for folder, values in kinds.items():
                mask = Image.fromarray(labels(number, *values, border=255).astype(np.uint8), "P")
                mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
                write(root / folder / f"2007_{number:06}.png", mask)
        lines = "".join(f"2007_{number:06}\n" for number in part)
        for folder, more in (("Segmentation", ""), ("Main", "2007_000040\n" * 9)):
            path = root / "ImageSets" / folder / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines + more)
    every = "".join(f"2007_{number:06}\n" for number in range(TRAIN + VALIDATION))
    (root / "ImageSets/Segmentation/trainval.txt").write_text(every)
    names = {0: "background", 8: "cat", 15: "person"}
    return Expected((12, 2, VALIDATION), names, (255,))


def cityscapes(root: Path) -> Expected:
    """A folder for each city, ids, colours and instances, no masks of the test split."""
    splits = dict(zip(("train", "val", "test"), numbers(TRAIN, VALIDATION, TEST), strict=True))
    for split, part in splits.items():
        for number in part:
            city = f"{'abc'[number % 3]}{split}"
            name = f"{city}/{city}_{number:06}_000019"
            write(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", picture(number))
            ids = labels(number, 0, 4) if split == "test" else labels(number, 7, 26, 24, border=4)
            truth = root / f"gtFine/{split}"
            write(truth / f"{name}_gtFine_labelIds.png", ids)
            write(truth / f"{name}_gtFine_instanceIds.png", labels(number, 7, 26, 24))
            write(truth / f"{name}_gtFine_color.png", colours(ids, {7: "#804080", 26: "#00008e"}))
    return Expected((12, 2, VALIDATION), {7: "road", 26: "car", 24: "person"}, (0, 4))


def camvid(root: Path) -> Expected:
    """A pair of folders for each split, and lists whose paths are those of another machine."""
    for split, part in zip(("train", "val", "test"), numbers(TRAIN, VALIDATION, TEST), strict=True):
        lines = []
        for number in part:
            write(root / f"{split}/0001TP_{number:06}.png", picture(number))
            write(root / f"{split}annot/0001TP_{number:06}.png", labels(number, 3, 1, 8, 11))
            name = f"0001TP_{number:06}.png"
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    names = {1: "building", 3: "road", 8: "car"}
    return Expected((TRAIN, VALIDATION, TEST), names, (11,))


def ade20k(root: Path) -> Expected:
    """Folders `training` and `validation`, 0 for what has no class, names in a table."""
    for split, part in zip(("training", "validation"), numbers(TRAIN, VALIDATION), strict=True):
        for number in part:
            name = f"ADE_{split[:5]}_{number:08}"
            write(root / f"images/{split}/{name}.jpg", picture(number))
            write(root / f"annotations/{split}/{name}.png", labels(number, 1, 2, 3, 0))
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", "1\t0.16\t11\t1\t1\twall"]
    rows += ["2\t0.1\t10\t1\t1\tbuilding, edifice", "3\t0.08\t8\t1\t1\tsky"]
    (root / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    return Expected((12, 2, VALIDATION), {1: "wall", 2: "building", 3: "sky"}, (0,))


def pet(root: Path) -> Expected:
    """Trimaps, files of a Mac beside, lists with more columns."""
    for number in range(TRAIN + TEST):
        write(root / f"images/Abyssinian_{number}.jpg", picture(number))
        write(root / f"annotations/trimaps/Abyssinian_{number}.png", labels(number, 2, 1, border=3))
        (root / f"annotations/trimaps/._Abyssinian_{number}.png").write_bytes(b"Mac OS X")
    for name, part in zip(("trainval", "test"), numbers(TRAIN, TEST), strict=True):
        lines = "".join(f"Abyssinian_{number} 1 1 1\n" for number in part)
        (root / f"annotations/{name}.txt").write_text(lines)
    return Expected((12, 2, TEST), {1: "pet", 2: "background", 3: "border"})


def supervisely(root: Path) -> Expected:
    """Masks that have the picture's whole name."""
    for number in range(40):
        write(root / f"ds0/img/IMG_{number}.jpg", picture(number))
        write(root / f"ds0/ann/IMG_{number}.jpg.png", labels(number, 0, 1, 2))
    (root / "classes.txt").write_text("ground\ntree\nroof\n")
    return Expected((28, 6, 6), {0: "ground", 1: "tree", 2: "roof"})


def flat(root: Path) -> Expected:
    """All in one folder, of one extension, masks by the end of their names."""
    for number in range(40):
        write(root / f"{number:03}.png", picture(number))
        write(root / f"{number:03}_mask.png", labels(number, 0, 1, 2, 3))
    return Expected((28, 6, 6), {n: f"class {n}" for n in range(4)})


PALETTE = {0: "#000000", 1: "#8000ff", 2: "#00ff80"}


def in_colours(root: Path) -> Expected:
    """Colours, with their names in a table."""
    for number in range(40):
        write(root / f"scans/{number:03}.jpeg", picture(number))
        write(root / f"truth/{number:03}.png", colours(labels(number, 0, 1, 2), PALETTE))
    (root / "class_dict.csv").write_text(
        "name,r,g,b\nnone,0,0,0\nnerve,128,0,255\nbone,0,255,128\n"
    )
    names = {"#000000": "none", "#8000ff": "nerve", "#00ff80": "bone"}
    return Expected((28, 6, 6), names)


def one_class(root: Path) -> Expected:
    """Black and white."""
    for number in range(40):
        write(root / f"input/{number:03}.jpg", picture(number))
        write(root / f"output/{number:03}.png", labels(number, 0, 255))
    return Expected((28, 6, 6), {0: "background", 255: "object"})


def listed(root: Path) -> Expected:
    """Lists of pictures and masks, with a prefix."""
    files = [(f"rgb/{number:03}.jpg", f"gt/{number:03}.png") for number in range(EVERY)]
    return with_lists(root, files, "lists/{}_list.txt", "/mnt/disk/set/{} /mnt/disk/set/{}")


def only_listed(root: Path) -> Expected:
    """Masks that have nothing in common with their pictures' names but a line of a list."""
    order = np.random.default_rng(0).permutation(EVERY)
    files = [(f"scans/case-{n:03}.jpg", f"truth/{order[n] + 500}.png") for n in range(EVERY)]
    return with_lists(root, files, "{}.csv", "{},{}")


def with_lists(root: Path, files: list[tuple[str, str]], list_name: str, line: str) -> Expected:
    """Pictures and masks of these names, and a list of them for each split."""
    splits = zip(("train", "val", "test"), numbers(TRAIN, VALIDATION, TEST), strict=True)
    for split, part in splits:
        for number in part:
            write(root / files[number][0], picture(number))
            write(root / files[number][1], labels(number, 0, 1, 2))
        path = root / list_name.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text("# picture mask\n" + "".join(f"{line.format(*files[n])}\n" for n in part))
    return Expected((TRAIN, VALIDATION, TEST), {n: f"class {n}" for n in range(3)})


LAYOUTS: dict[str, Callable[[Path], Expected]] = {
    made.__name__: made
    for made in (
        voc,
        cityscapes,
        camvid,
        ade20k,
        pet,
        supervisely,
        flat,
        in_colours,
        one_class,
        listed,
        only_listed,
    )
}


# The corners of a rectangle.
CORNERS = [(8, 6), (40, 6), (40, 30), (8, 30)]
NAMES = {1: "cat", 2: "dog"}


def coco(root: Path, file: str, names: list[str], category: Callable[[int], int]) -> None:
    """A file of annotations with a rectangle on each picture."""
    images = [
        {"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for n, name in enumerate(names)
    ]
    outline = [[value for corner in CORNERS for value in corner]]
    given = [
        {"id": n, "image_id": n, "category_id": category(n), "segmentation": outline}
        for n in range(len(names))
    ]
    categories = [{"id": label, "name": name} for label, name in NAMES.items()]
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": given}))


def coco_2017(root: Path) -> tuple[int, int, int]:
    """Files beside that are of no objects, a folder with a year for each split."""
    for split, part in zip(("train", "val"), numbers(TRAIN, VALIDATION), strict=True):
        names = [f"{number:012}.jpg" for number in part]
        for number, name in zip(part, names, strict=True):
            write(root / f"{split}2017/{name}", picture(number))
        coco(root, f"annotations/instances_{split}2017.json", names, lambda n: 1 + n % 2)
        coco(root, f"annotations/person_keypoints_{split}2017.json", names, lambda n: 1)
        captions = {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}
        (root / f"annotations/captions_{split}2017.json").write_text(json.dumps(captions))
    return 12, 2, VALIDATION


def roboflow(root: Path) -> tuple[int, int, int]:
    """A file of annotations among the pictures of each split."""
    for split, part in zip(
        ("train", "valid", "test"), numbers(TRAIN, VALIDATION, TEST), strict=True
    ):
        names = [f"{number:03}_jpg.rf.{number:06x}.jpg" for number in part]
        for number, name in zip(part, names, strict=True):
            write(root / split / name, picture(number))
        coco(root, f"{split}/_annotations.coco.json", names, lambda n: 1 + n % 2)
    return TRAIN, VALIDATION, TEST


def cvat(root: Path) -> tuple[int, int, int]:
    """One file of annotations for all pictures."""
    names = [f"{number:03}.png" for number in range(40)]
    for number, name in enumerate(names):
        write(root / f"images/default/{name}", picture(number))
    coco(root, "annotations/instances_default.json", names, lambda n: 1 + n % 2)
    return 28, 6, 6


def ultralytics(root: Path) -> tuple[int, int, int]:
    """A text file of polygons for each picture."""
    points = " ".join(f"{x / SIZE[1]:.4f} {y / SIZE[0]:.4f}" for x, y in CORNERS)
    for split, part in zip(("train", "val"), numbers(TRAIN, VALIDATION), strict=True):
        for number in part:
            write(root / f"images/{split}/{number:03}.jpg", picture(number))
            path = root / f"labels/{split}/{number:03}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number % 2} {points}\n")
    (root / "data.yaml").write_text("path: .\nnames: {0: cat, 1: dog}\n")
    return 12, 2, VALIDATION


def labelme(root: Path) -> tuple[int, int, int]:
    """A JSON beside each picture, more than are looked at one by one."""
    for number in range(60):
        write(root / f"{number:03}.jpg", picture(number))
        shape = {"label": NAMES[1 + number % 2], "points": CORNERS, "shape_type": "polygon"}
        content = {"shapes": [shape], "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        (root / f"{number:03}.json").write_text(json.dumps(content))
    return 42, 9, 9


# By format, and the pictures of each split.
ANNOTATED: dict[str, tuple[str, Callable[[Path], tuple[int, int, int]]]] = {
    "coco_2017": ("coco", coco_2017),
    "roboflow": ("coco", roboflow),
    "cvat": ("coco", cvat),
    "ultralytics": ("yolo", ultralytics),
    "labelme": ("labelme", labelme),
}
