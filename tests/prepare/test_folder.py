"""Source folder: own pictures and masks, how they are matched and split, and what can be wrong."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.prepare import settings as dataset_settings
from stages.prepare.sources import folder
from stages.prepare.sources.files.lists import names as called_by
from stages.prepare.sources.files.lists import pictures_of
from stages.shared.formats.pictures import BadPictureError
from stages.shared.records.ignore_label import IGNORED
from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import SPLITS
from tests.conftest import ROOT

CLASSES = {0: "ground", 1: "cat", 2: "dog"}
FRACTIONS = {"by": "fraction", "train": 0.5, "validation": 0.25, "test": 0.25}
ORIENTATION = 0x0112


def settings(where: Path, /, **changes: object) -> dataset_settings.FolderSource:
    values = {
        "source": "folder",
        "root": str(where),
        "pictures": "images/**/*.png",
        "masks": "masks/**/*.png",
        "splits": FRACTIONS,
        "classes": CLASSES,
        "image_size": 32,
        "shard_size": 4,
        "bad_pictures": "stop",
    }
    return dataset_settings.FolderSource.model_validate(values | changes)


def labels_of(index: int) -> np.ndarray:
    """A small mask of the labels 0, 1 and 2, of its own size."""
    return np.random.default_rng(index).integers(0, 3, (6 + index, 9), np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path)


def labelled(root: Path, *names: str) -> None:
    """Pictures images/NAME.png and masks masks/NAME.png."""
    for index, name in enumerate(names):
        mask = labels_of(index)
        save(root / f"images/{name}.png", np.dstack([mask * 40] * 3))
        save(root / f"masks/{name}.png", mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight labelled pictures, a to h."""
    labelled(tmp_path, *"abcdefgh")
    return tmp_path


def names(found: dataset_settings.FolderSource, split: str, seed: int = 27) -> list[str]:
    return [example.name for example in folder.examples(found, seed)[split]]


def decoded(found: dataset_settings.FolderSource) -> dict[str, np.ndarray]:
    """The class indices of every picture's mask."""
    table = folder.labels(found)
    return {
        example.name: table.indices(example.decode()[1])
        for examples in folder.examples(found, 27).values()
        for example in examples
    }


def palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask, "P")
    image.putpalette([0, 0, 0, 0, 0, 255, 255, 0, 0])
    return image


COLOURS = np.array([(0, 0, 0), (0, 0, 255), (255, 0, 0)], np.uint8)
MASKS = {
    "8-bit grey": (lambda mask: mask, CLASSES),
    "16-bit grey": (lambda mask: mask.astype(np.uint16) * 300, {0: "ground", 300: "cat", 600: "d"}),
    "palette": (palette, CLASSES),
    "colours": (
        lambda mask: COLOURS[mask],
        {"#000000": "ground", "#0000FF": "cat", "#ff0000": "dog"},
    ),
    "the colours of a palette": (
        palette,
        {"#000000": "ground", "#0000ff": "cat", "#ff0000": "dog"},
    ),
    "colours with alpha": (
        lambda mask: np.dstack([COLOURS[mask], np.full(mask.shape, 9, np.uint8)]),
        {"#000000": "ground", "#0000ff": "cat", "#ff0000": "dog"},
    ),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_every_kind_become_class_indices(kind: str, root: Path):
    saved_as, classes = MASKS[kind]
    for index, name in enumerate("abcdefgh"):
        save(root / f"masks/{name}.png", saved_as(labels_of(index)))
    found = decoded(settings(root, classes=classes))
    assert len(found) == 8
    for index, name in enumerate("abcdefgh"):
        np.testing.assert_array_equal(found[f"images/{name}.png"], labels_of(index))


@pytest.mark.parametrize("colours", [False, True], ids=["labels", "colours"])
def test_ignored_labels_and_names_that_are_shared(colours: bool, root: Path):
    classes, ignore = {0: "ground", 1: "animal", 2: "animal"}, [7]
    if colours:
        for index, name in enumerate("abcdefgh"):
            save(root / f"masks/{name}.png", COLOURS[labels_of(index)])
        classes = {"#000000": "ground", "#ff0000": "animal", "#0000ff": "animal"}
        ignore = ["#0A0B0C"]
    marked = Image.open(root / "masks/a.png").convert("RGB" if colours else "L")
    marked.putpixel((3, 2), (10, 11, 12) if colours else 7)
    save(root / "masks/a.png", marked)

    own = settings(root, classes=classes, ignore=ignore)
    assert folder.labels(own).classes == ["ground", "animal"]
    expected = np.minimum(labels_of(0), 1)
    expected[2, 3] = IGNORED
    np.testing.assert_array_equal(decoded(own)["images/a.png"], expected)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({1: "Building", 0: "Sky"}, ["Sky", "Building"]),
        ({10: "ten", 9: "nine", 100: "ten"}, ["nine", "ten"]),
        ({"#0000ff": "sea", "#00000a": "land"}, ["land", "sea"]),
        (["Sky", "Building", "Sky"], ["Sky", "Building"]),
    ],
)
def test_classes_follow_their_labels_whatever_the_order_in_the_file(classes, expected, root: Path):
    assert folder.labels(settings(root, classes=classes)).classes == expected


def test_class_names_from_a_text_file(root: Path):
    (root / "names.txt").write_text("ground\ncat \nchien à poil\n\n", encoding="utf-8")
    own = settings(root, classes="names.txt")
    assert folder.labels(own).classes == ["ground", "cat", "chien à poil"]
    np.testing.assert_array_equal(decoded(own)["images/c.png"], labels_of(2))


def test_fractions_share_out_every_picture_by_the_seed(root: Path):
    own = settings(root)
    parts = [names(own, split) for split in SPLITS]
    assert [len(part) for part in parts] == [4, 2, 2]
    assert sorted(name for part in parts for name in part) == [
        f"images/{name}.png" for name in "abcdefgh"
    ]
    assert parts == [sorted(part) for part in parts]
    assert parts == [names(own, split) for split in SPLITS]
    assert any(parts != [names(own, split, seed) for split in SPLITS] for seed in range(3))


def test_a_picture_that_is_added_moves_few_others(tmp_path: Path):
    labelled(tmp_path, *(f"{number:03d}" for number in range(60)))
    before = {name: split for split in SPLITS for name in names(settings(tmp_path), split)}
    labelled(tmp_path, *(f"{number:03d}" for number in range(61)))
    after = {name: split for split in SPLITS for name in names(settings(tmp_path), split)}
    assert sum(before[name] != after[name] for name in before) <= 2


def test_a_split_by_folder_where_stems_are_repeated(tmp_path: Path):
    for split in ("train", "val", "test"):
        labelled(tmp_path / split, "x", "y")
    by_folder = {"by": "folder", "train": "train", "validation": "val", "test": "test"}
    own = settings(tmp_path, pictures="*/images/*.png", masks="*/masks/*.png", splits=by_folder)
    assert names(own, "validation") == ["val/images/x.png", "val/images/y.png"]
    pairs, _ = folder.found(own, seed=0)
    assert len(pairs) == 6
    assert all(pair.mask == pair.picture.replace("images", "masks") for pair in pairs)


def test_a_split_by_list_with_a_share_for_validation(root: Path):
    """A line may be a path, a file name or a stem, with more columns behind, as in Oxford's."""
    (root / "trainval.txt").write_text("# a comment\nimages/a.png\nb.png 1 2\nc\nd\n")
    (root / "test.txt").write_text("e\nf\n")
    by_list = {"by": "list", "train": "trainval.txt", "validation": 0.25, "test": "test.txt"}
    own = settings(root, splits=by_list)
    train, validation, test = (names(own, split) for split in SPLITS)
    assert sorted(train + validation) == [f"images/{name}.png" for name in "abcd"]
    assert len(validation) == 1
    assert test == ["images/e.png", "images/f.png"]


def test_a_file_that_both_patterns_find_is_a_mask_where_others_are_pictures(root: Path):
    for path in (root / "masks").iterdir():
        path.rename(root / f"images/{path.stem}_mask.png")
    own = settings(root, pictures="images/*.png", masks="images/*_mask.png")
    pairs, _ = folder.found(own, seed=0)
    assert [(pair.picture, pair.mask) for pair in pairs] == [
        (f"images/{name}.png", f"images/{name}_mask.png") for name in "abcdefgh"
    ]


def test_braces_pair_the_folders_of_each_split_though_stems_are_repeated(tmp_path: Path):
    for split in ("train", "val", "test"):
        labelled(tmp_path / "made", "x", "y")
        (tmp_path / "made/images").rename(tmp_path / split)
        (tmp_path / "made/masks").rename(tmp_path / f"{split}annot")
    own = settings(
        tmp_path,
        pictures="{train,val,test}/*.{png,jpg}",
        masks="{trainannot,valannot,testannot}/*.png",
        splits={"by": "folder", "train": "train", "validation": "val", "test": "test"},
    )
    pairs, parts = folder.found(own, seed=0)
    assert len(pairs) == 6
    for pair in pairs:
        split, name = pair.picture.split("/")
        assert pair.mask == f"{split}annot/{name}"
    assert [pair.picture for pair in parts["validation"]] == ["val/x.png", "val/y.png"]


def test_lists_from_elsewhere_name_the_masks_too(root: Path):
    """Masks have other names, and pictures that no list names need none."""
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_stem(f"truth-{path.stem}"))
    (root / "masks/truth-h.png").unlink()
    for split, names_of in (("train", "abc"), ("val", "de"), ("test", "fg")):
        lines = (f"/mnt/set/images/{n}.png /mnt/set/masks/truth-{n}.png\n" for n in names_of)
        (root / f"{split}.txt").write_text("".join(lines))
    by_list = {"by": "list", "train": "train.txt", "validation": "val.txt", "test": "test.txt"}
    _, parts = folder.found(settings(root, splits=by_list), seed=0)
    assert {split: [(p.picture, p.mask) for p in part] for split, part in parts.items()} == {
        split: [(f"images/{n}.png", f"masks/truth-{n}.png") for n in names_of]
        for split, names_of in (("train", "abc"), ("validation", "de"), ("test", "fg"))
    }


def test_numbers_behind_a_picture_are_no_masks(tmp_path: Path):
    labelled(tmp_path, *(str(number) for number in range(6)))
    for split, part in (("train", "01"), ("val", "23"), ("test", "45")):
        (tmp_path / f"{split}.txt").write_text("".join(f"{n} 1 0\n" for n in part))
    by_list = {"by": "list", "train": "train.txt", "validation": "val.txt", "test": "test.txt"}
    pairs, _ = folder.found(settings(tmp_path, splits=by_list), seed=0)
    assert all(pair.mask == pair.picture.replace("images", "masks") for pair in pairs)


def test_the_pictures_of_a_group_are_in_one_split(tmp_path: Path):
    stems = [f"seq{group}/{number}" for group in range(12) for number in range(1 + group % 4)]
    labelled(tmp_path, *stems)
    apart = settings(tmp_path)
    together = settings(tmp_path, splits=FRACTIONS | {"group": "seq[0-9]+"})

    def groups(own: dataset_settings.FolderSource, split: str) -> set[str]:
        return {name.split("/")[1] for name in names(own, split)}

    assert groups(apart, "train") & groups(apart, "test")
    parts = [groups(together, split) for split in SPLITS]
    assert set.union(*parts) == {f"seq{group}" for group in range(12)}
    assert sum(map(len, parts)) == 12
    sizes = [len(names(together, split)) for split in SPLITS]
    assert sum(sizes) == 30
    assert sizes == pytest.approx([15, 7.5, 7.5], abs=3)


def test_check_decodes_a_few_of_each_split_and_tells_of_small_ones(root: Path, capsys):
    folder.check(settings(root), 27)
    assert "note: validation has 2 pictures; its measures say little" in capsys.readouterr().out
    own = settings(root, classes={0: "ground", 2: "dog"})
    with pytest.raises(UserError, match=r"images/.\.png: the mask holds labels without a class: 1"):
        folder.check(own, 27)
    folder.check(settings(root, classes={0: "ground", 2: "dog"}, bad_pictures="skip"), 27)


def test_names_with_spaces_and_any_letters(tmp_path: Path):
    stems = ["Kätzchen im Schnee", "猫 1", "a'b\"c;$(touch x)&<b>"]
    labelled(tmp_path, *stems)
    # macOS spells ä in two signs.
    mask = tmp_path / "masks/Kätzchen im Schnee.png"
    mask.rename(mask.with_name(unicodedata.normalize("NFD", mask.name)))
    (tmp_path / "list.txt").write_text(stems[0], encoding="utf-8")
    (tmp_path / "rest.txt").write_text("\n".join(stems[1:]), encoding="utf-8")
    thirds = {"by": "list", "train": "rest.txt", "validation": 0.5, "test": "list.txt"}
    own = settings(tmp_path, splits=thirds)
    assert names(own, "test") == ["images/Kätzchen im Schnee.png"]
    assert len(decoded(own)) == 3


def test_a_suffix_in_the_pattern_is_no_part_of_the_stem(root: Path):
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    pairs, _ = folder.found(settings(root, masks="masks/*_mask.*"), seed=0)
    assert len(pairs) == 8


def test_hidden_files_are_passed_over_and_linked_folders_are_not(root: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    labelled(elsewhere, "z")
    (root / "images/more").symlink_to(elsewhere / "images")
    (root / "masks/more").symlink_to(elsewhere / "masks")
    (root / "images/._a.png").write_bytes(b"what macOS leaves in archives")
    pairs, _ = folder.found(settings(root), seed=0)
    assert pairs[-1].picture == "images/more/z.png"
    assert len(pairs) == 9


@pytest.mark.parametrize("drawn_on", ["what a viewer shows", "the pixels as stored"])
def test_a_turned_picture_fits_its_mask(drawn_on: str, root: Path):
    """A camera held upright stores a lying picture and says so in EXIF."""
    stored = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # Turn by 90 degrees, clockwise, to show it.
    Image.fromarray(stored).save(root / "images/a.png", exif=exif)
    shown = np.rot90(stored, -1)
    expected = shown if drawn_on == "what a viewer shows" else stored
    save(root / "masks/a.png", np.zeros(expected.shape[:2], np.uint8))
    examples = {e.name: e for part in folder.examples(settings(root), 27).values() for e in part}
    np.testing.assert_array_equal(examples["images/a.png"].decode()[0], expected)


def remove(name: str):
    return lambda root: (root / name).unlink()


def copy(name: str, target: str):
    def change(root: Path) -> None:
        (root / target).parent.mkdir(exist_ok=True)
        (root / target).write_bytes((root / name).read_bytes())

    return change


def link(name: str):
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to("/nowhere/a.png")

    return change


def text(**files: str):
    return lambda root: [(root / f"{name}.txt").write_text(value) for name, value in files.items()]


LISTS = {"by": "list", "train": "train.txt", "validation": 0.5, "test": "test.txt"}
FOLDERS = {"by": "folder", "train": "train", "validation": 0.5, "test": "test"}
# What is wrong with the folder: how it came to be, changed settings, what the message must say.
MISTAKES = {
    "a picture without a mask": (remove("masks/c.png"), {}, r"no mask for images/c\.png; looked"),
    "a mask without a picture": (remove("images/c.png"), {}, r"no picture for masks/c\.png; look"),
    "masks that both patterns find": (
        lambda root: None,
        {"pictures": "*/*.png", "masks": "*/*.png", "bad_pictures": "skip"},
        r"both match images/a\.png, .* and 11 more; narrow '\*/\*\.png', so that each file is a",
    ),
    "no stem in common": (
        lambda root: [p.rename(p.with_stem(f"m{p.stem}")) for p in (root / "masks").iterdir()],
        {"bad_pictures": "skip"},
        r"no picture has a mask: images/a\.png has the stem 'a', masks/ma\.png 'ma'; looked for",
    ),
    "two masks for a picture": (
        copy("masks/c.png", "masks/more/c.png"),
        {},
        r"two files are for the picture c: masks/c\.png and masks/more/c\.png",
    ),
    "two pictures of one name": (
        copy("images/c.png", "images/c.jpg"),
        {"pictures": "images/*"},
        r"two pictures are called c: images/c\.jpg and images/c\.png",
    ),
    "a broken link": (
        link("images/c.png"),
        {},
        r"images/c\.png is a broken link to /nowhere/a\.png",
    ),
    "a pattern that finds nothing": (
        lambda root: None,
        {"masks": "labels/*.png"},
        r"dataset\.masks is 'labels/\*\.png', which matches no file in",
    ),
    "no such folder": (lambda root: None, {"root": "/nowhere"}, r"/nowhere can't be read: No such"),
    "no list": (
        lambda root: None,
        {"splits": LISTS},
        r"splits\.train is .*/train\.txt, which can't",
    ),
    "a list of others": (
        text(train="a\nq", test="b"),
        {"splits": LISTS},
        r"train\.txt, line 2: 'q' matches no picture of images",
    ),
    "a picture on two lists": (
        text(train="a\nb", test="b"),
        {"splits": LISTS},
        r"images/b\.png is listed for two splits, train and test",
    ),
    "a picture in no split": (
        lambda root: None,
        {"splits": FOLDERS},
        r"images/a\.png is in no split: .* lie in one of train/, test/",
    ),
    "no class names": (
        lambda root: None,
        {"classes": "n.txt"},
        r"dataset\.classes is .*/n\.txt, ",
    ),
    "an empty list": (
        text(train="a\nb", test="# none"),
        {"splits": LISTS},
        r"test\.txt lists no picture",
    ),
    "an empty line among class names": (
        text(n="void\n\ncat\ndog"),
        {"classes": "n.txt"},
        r"n\.txt: line 2 is empty; it should name label 1",
    ),
    "one class name": (text(n="cat"), {"classes": "n.txt"}, r"n\.txt names 1 classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_folder_is_named(mistake: str, root: Path):
    change, changes, message = MISTAKES[mistake]
    change(root)
    own = settings(root, **changes)
    for found in (folder.check, folder.examples):
        with pytest.raises(UserError, match=message):
            folder.labels(own)
            found(own, 27)


NO_CAT = {0: "ground", 2: "dog"}
# What is wrong with a mask or a picture: what the files hold, settings, what the message must say.
BAD_PICTURES = {
    "a label without a class": ({}, {"classes": NO_CAT}, r"labels without a class: 1; name"),
    "a class list shorter than the labels": (
        {"names.txt": b"ground\ncat\n"},
        {"classes": "names.txt"},
        r"labels without a class: 2; name them in dataset\.classes",
    ),
    "a colour that is not in the table": (
        {"masks/a.png": COLOURS[labels_of(0)]},
        {"classes": {"#000000": "ground", "#ff0000": "cat"}},
        r"colours without a class: #0000ff; name them in dataset\.classes",
    ),
    "a label out of range": (
        {"masks/a.png": np.full((6, 9), 300, np.uint16)},
        {},
        r"labels without a class: 300; name",
    ),
    "colours where labels should be": (
        {"masks/a.png": COLOURS[labels_of(0)]},
        {},
        r"the mask's pixels are RGB, not labels of 8 or 16 bits",
    ),
    "a mask of another size": (
        {"masks/a.png": labels_of(1)},
        {},
        r"the mask is 9 x 7 pixels, its picture 9 x 6",
    ),
    "an unreadable file": (
        {"masks/a.png": b"<html>"},
        {},
        r"the mask is not an image in a known format",
    ),
    "a cut-off file": ({"images/a.png": b"\x89PNG\r\n\x1a\n"}, {}, r"the picture (is no|does not)"),
    "16 bits a channel": (
        {"images/a.png": np.full((6, 9), 3000, np.uint16)},
        {},
        r"the picture's pixels are I;16, more than 8 bits",
    ),
}


@pytest.mark.parametrize("problem", BAD_PICTURES)
def test_what_is_wrong_with_a_picture_is_told(problem: str, root: Path):
    files, changes, message = BAD_PICTURES[problem]
    for name, content in files.items():
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
        else:
            save(root / name, content)
    own = settings(root, **changes)
    examples = {e.name: e for part in folder.examples(own, 27).values() for e in part}
    assert examples["images/a.png"].mask == "masks/a.png"
    with pytest.raises(BadPictureError, match=message):
        folder.labels(own).indices(examples["images/a.png"].decode()[1])


def test_what_is_in_no_split_is_told(root: Path, capsys):
    (root / "train.txt").write_text("a\nb")
    (root / "test.txt").write_text("c")
    names(settings(root, splits=LISTS), "train")
    listed = "images/d.png, images/e.png, images/f.png, images/g.png, images/h.png"
    assert capsys.readouterr().out == f"note: in no split: {listed}\n"


def test_pictures_that_no_pattern_finds_are_told_by_their_folder(root: Path, capsys):
    for name in ("images/1.png", "new/1.png", "new/later/2.png", "new/later/3.png"):
        save(root / name, labels_of(1))
    (root / "masks/1.png").write_bytes((root / "masks/a.png").read_bytes())
    for name in ("new/notes.txt", "new/.4.png", ".hidden/5.png", "top.png"):
        save(root / f"{name}.png", labels_of(1))
        (root / f"{name}.png").rename(root / name)
    names(settings(root), "train")
    expected = "1 in ./, 1 in new/, 2 in new/later/"
    assert capsys.readouterr().out == (
        f"note: neither dataset.pictures nor dataset.masks finds some files: {expected}\n"
    )


def test_a_picture_without_a_mask_may_be_skipped(root: Path, capsys):
    (root / "masks/c.png").unlink()
    (root / "images/d.png").unlink()
    own = settings(root, bad_pictures="skip")
    examples = {e.name: e for part in folder.examples(own, 27).values() for e in part}
    assert len(examples) == 7
    assert capsys.readouterr().out.count("note: no picture for masks/d.png; looked for in") == 1
    with pytest.raises(BadPictureError, match="it has no mask"):
        examples["images/c.png"].decode()


READ_AS_NOBODY = """
from tests.prepare.test_folder import settings, folder, os, Path
import sys
if os.geteuid() == 0:
    os.seteuid(65534)
folder.examples(settings(Path(sys.argv[1])), 27)
"""


def test_a_folder_without_permission_is_named(root: Path):
    """As a user for whom permissions count: they do not for root."""
    for path in (root, *root.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    (root / "masks").chmod(0)
    command = [sys.executable, "-c", READ_AS_NOBODY, str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (root / "masks").chmod(0o755)
    assert f"UserError: {root}/masks can't be read: Permission denied" in done.stderr


PICTURES_OF_LISTS = [
    "images/scan.jpg",
    "images/scan 2.jpg",
    "images/a, b.jpg",
    "images/a/1.png",
    "images/b/1.png",
    "images/2.png",
    "images/3.png",
]


@pytest.mark.parametrize(
    ("line", "picture", "more"),
    [
        ("scan 2.jpg,scan 2.png", "images/scan 2.jpg", ["scan 2.png"]),
        ("scan.jpg scan 2.png", "images/scan.jpg", ["scan", "2.png"]),
        ("scan 2.jpg", "images/scan 2.jpg", []),
        ("scan", "images/scan.jpg", []),
        ("a, b.jpg", "images/a, b.jpg", []),
        ("images/a/1.png masks/a/1.png", "images/a/1.png", ["masks/a/1.png"]),
        ("images/2.png masks/3.png", "images/2.png", ["masks/3.png"]),
        ("3 1 0 2", "images/3.png", ["1", "0", "2"]),
    ],
)
def test_a_picture_in_a_list_is_a_column_where_one_is_called_so_or_else_the_line(
    line: str, picture: str, more: list[str]
):
    assert pictures_of(called_by(PICTURES_OF_LISTS), line) == ({picture}, more)


def test_a_split_that_stays_empty_is_named_before_anything_is_decoded(root: Path):
    few = {"by": "fraction", "train": 0.5, "validation": 0.01, "test": 0.49}
    with pytest.raises(UserError, match=r"splits\.validation is 0\.01, which leaves no picture"):
        folder.check(settings(root, splits=few), 27)


def test_check_looks_at_the_splits_that_prepare_will_make(tmp_path: Path):
    """Groups of different sizes: which split stays empty depends on the seed."""
    labelled(tmp_path, *(f"{group}{number}" for group in "fghij" for number in range(4)))
    labelled(tmp_path, *(f"f{number}" for number in range(4, 20)))
    shares = {"by": "fraction", "train": 0.7, "validation": 0.15, "test": 0.15}
    own = settings(tmp_path, splits=shares | {"group": "images/[a-z]"})
    outcomes = set()
    for seed in range(8):
        empty = any(not part for part in folder.examples(own, seed).values())
        outcomes.add(empty)
        if empty:
            with pytest.raises(UserError, match="which leaves no picture"):
                folder.check(own, seed)
        else:
            folder.check(own, seed)
    assert outcomes == {True, False}


def test_braces_that_stand_for_too_many_patterns_are_named(root: Path):
    with pytest.raises(UserError, match=r"images/\{00001\.\.20000\}.* more than 10,000 patterns"):
        folder.found(settings(root, pictures="images/{00001..20000}.png"), seed=0)
