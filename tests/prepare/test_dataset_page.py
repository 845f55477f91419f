"""reports/dataset/: what it tells of a data set, and the warnings that name files."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from stages.prepare import settings as dataset_settings
from stages.prepare import stage
from stages.shared.records.dataset import Dataset
from stages.shared.runtime.errors import UserError
from tests.conftest import write_params

FOLDERS = {"by": "folder", "train": "train", "validation": "val", "test": "test"}
NASTY = "<img src=x onerror=alert(1)> & co"


def save(root: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        path = root / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def picture(seed: int, size: tuple[int, int] = (40, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A picture of noise and a mask whose right half is of label 1."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[:, size[1] // 2 :] = 1
    return image, mask


ORIENTATION = ExifTags.Base.Orientation


def write_splits(root: Path, names: str) -> None:
    """Pictures of these names in each split, without a fault."""
    for number, name in enumerate(f"{s}/{n}" for s in ("train", "val", "test") for n in names):
        save(root, name, *picture(number))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures a split."""
    write_splits(tmp_path, "ab")
    return tmp_path


def prepare(root: Path, monkeypatch, **changes: object) -> tuple[Dataset, str]:
    """Run the stage on the folder; what the records hold, and the page."""
    values = {
        "source": "folder",
        "root": str(root),
        "pictures": "images/*/*.png",
        "masks": "masks/*/*.png",
        "splits": FOLDERS,
        "classes": {0: "ground", 1: NASTY},
        "ignore": [255],
        "image_size": 32,
        "shard_size": 4,
        "bad_pictures": "stop",
    }
    settings = dataset_settings.FolderSource.model_validate(values | changes)
    monkeypatch.chdir(root)
    write_params(settings, seed=27)
    stage.prepare()
    return Dataset.load(), Path("reports/dataset/index.html").read_text(encoding="utf-8")


def warnings(page: str) -> dict[str, list[str]]:
    """The warnings of a page: heading, and what is listed."""
    blocks = re.findall(r'<div class="warning"><b>(.*?)</b>(.*?)</div>', page, re.DOTALL)
    return {head: re.findall("<li>(.*?)</li>", listed) for head, listed in blocks}


def test_the_page_of_a_sound_data_set(root: Path, monkeypatch):
    write_splits(root, "abcdefghij")
    dataset, page = prepare(root, monkeypatch)
    assert warnings(page) == {}
    assert "No warnings." in page
    for split in ("train", "validation", "test"):
        assert re.search(rf"<td>{split}<td>10<td>0", page)
        assert dataset.pixel_share[split] == {"ground": 0.5, NASTY: 0.5}
    assert page.count("50.00%") == 6
    assert "All pictures are of 40 x 40 pixels." in page
    shown = re.findall(r'<img[^>]* src="([^"]+)"', page)
    assert len(shown) == 30
    assert not any("sizes" in file for file in shown)
    for file in shown:
        with Image.open(root / "reports/dataset" / file) as image:
            image.load()


def test_names_are_text_and_never_html(root: Path, monkeypatch):
    save(root, f"train/{NASTY}", *picture(9))
    page = prepare(root, monkeypatch)[1]
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; co" in page
    assert "<img src=x" not in page


def test_warnings_name_the_files(root: Path, monkeypatch, capsys):
    save(root, "test/copy", *picture(0))
    save(root, "train/wide", *picture(10, (20, 200)))
    image, mask = picture(11)
    save(root, "train/plain", image, np.zeros_like(mask))
    save(root, "val/void", picture(12)[0], np.full_like(mask, 255))
    for name in "ab":
        save(root, f"val/{name}", picture(ord(name))[0], np.zeros_like(mask))
    save(root, "train/new", picture(13)[0], np.full_like(mask, 7))
    found = warnings(prepare(root, monkeypatch, bad_pictures="skip")[1])
    assert found == {
        "the same picture in more than one split (1)": [
            "train: images/train/a.png, test: images/test/copy.png"
        ],
        "classes without a pixel in the split validation (1)": [
            "&lt;img src=x onerror=alert(1)&gt; &amp; co"
        ],
        "masks of a single class (3)": [
            "train: images/train/plain.png",
            "validation: images/val/a.png",
            "validation: images/val/b.png",
        ],
        "masks of which every pixel is ignored (1)": ["validation: images/val/void.png"],
        "splits of fewer than 10 pictures: their measures say little (3)": [
            "train: 4",
            "validation: 3",
            "test: 3",
        ],
        "pictures with an unusual aspect ratio: they will be squeezed (1)": [
            "train: images/train/wide.png, 200 x 20"
        ],
        "pictures left out, because dataset.bad_pictures is skip (1)": [
            "train: images/train/new.png: the mask holds labels without a class: 7; name them in "
            "dataset.classes, or list them in dataset.ignore (its mask is masks/train/new.png)"
        ],
    }
    printed = capsys.readouterr().out
    assert "warning: the same picture in more than one split: train: images/train/a.png" in printed
    assert "see reports/dataset/index.html" in printed


def test_a_picture_that_exif_turns_and_its_mask_not_is_named(root: Path, monkeypatch):
    """Of 40 x 60; its mask fits it turned, unturned, or either way, or is turned by EXIF too."""
    image, mask = picture(30, (40, 60))
    sideways, half, unknown = Image.Exif(), Image.Exif(), Image.Exif()
    sideways[ORIENTATION], half[ORIENTATION], unknown[ORIENTATION] = 6, 3, 0
    for name, exif, labels, options in (
        ("fits", sideways, np.rot90(mask), {}),
        ("stored", sideways, mask, {}),
        ("half", half, mask, {}),
        ("both", half, mask, {"exif": half}),
        ("copied", None, mask, {"exif": sideways}),
        ("unknown", unknown, mask, {}),
    ):
        Image.fromarray(image).save(root / f"images/train/{name}.png", exif=exif)
        labels = np.ascontiguousarray(labels)
        Image.fromarray(labels).save(root / f"masks/train/{name}.png", **options)
    found = warnings(prepare(root, monkeypatch)[1])
    assert found[
        "EXIF turns the picture, but its mask fits it unturned: it is taken unturned (1)"
    ] == ["train: images/train/stored.png"]
    either = (
        "EXIF turns a picture and not its mask or outlines, or the other way round, and they fit "
        "either way: where they do not lie on each other, remove the orientation from the file (1)"
    )
    assert found[either] == ["train: images/train/half.png"]
    stale = "EXIF turns the mask, but it fits its picture unturned: it is taken unturned (1)"
    assert found[stale] == ["train: images/train/copied.png"]


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_pictures_far_from_the_records_shape_are_named(fit: str, root: Path, monkeypatch):
    """Of a square, a picture of 60 x 100 leaves four tenths to padding, one of 40 x 100 six."""
    for name, width in (("near", 60), ("far", 40), ("also", 20)):
        save(root, f"train/{name}", *picture(31 + width, (100, width)))
    found = warnings(prepare(root, monkeypatch, fit=fit)[1])
    (about,) = [head for head in found if head.startswith("pictures so long")]
    assert found[about] == [
        "train: images/train/also.png, 20 x 100",
        "train: images/train/far.png, 40 x 100",
    ]


def test_labels_that_smoothing_has_made_are_told(root: Path, monkeypatch):
    smooth = np.linspace(0, 255, 1600).astype(np.uint8).reshape(40, 40)
    Image.fromarray(smooth).save(root / "masks/train/a.png")
    with pytest.raises(
        UserError, match=r"and 24\d more; so many come from smoothing: resize masks"
    ):
        prepare(root, monkeypatch)


def test_masks_that_are_jpeg_are_named_whatever_their_suffix(root: Path, monkeypatch):
    Image.fromarray(np.ones((40, 40), np.uint8)).save(root / "masks/train/a.png", "JPEG")
    found = warnings(prepare(root, monkeypatch)[1])
    jpeg = "the mask is a JPEG, whose compression changes labels: save masks as PNG (1)"
    assert found[jpeg] == ["train: images/train/a.png"]
    noise = np.random.default_rng(0).integers(0, 2, (40, 40), np.uint8) * 9
    Image.fromarray(noise).save(root / "masks/train/a.png", "JPEG")
    with pytest.raises(UserError, match=r"labels without a class: .*; the mask is a JPEG, whose"):
        prepare(root, monkeypatch)


def test_a_split_that_stays_empty_is_named(root: Path, monkeypatch):
    fractions = {"by": "fraction", "train": 0.5, "validation": 0.01, "test": 0.49}
    with pytest.raises(UserError, match=r"splits\.validation is 0\.01, which leaves no picture$"):
        prepare(root, monkeypatch, splits=fractions)


def test_a_split_whose_masks_are_all_ignored_is_named(root: Path, monkeypatch):
    for mask in (root / "masks/test").glob("*.png"):
        Image.fromarray(np.full((40, 40), 255, np.uint8)).save(mask)
    with pytest.raises(
        UserError, match=r"splits\.test is .*, whose masks have ignored labels alone"
    ):
        prepare(root, monkeypatch, ignore=[255])


def test_the_padding_of_a_picture_counts_nowhere(root: Path, monkeypatch):
    image, mask = picture(20, (40, 20))
    mask[:, 10:] = 1
    mask[:10] = 1
    save(root, "train/high", image, mask)
    dataset, _ = prepare(root, monkeypatch, fit="pad")
    # 32 x 32 twice, half of each class, and 32 x 16, of which 5/8 are of class 1.
    of_one = (2 * 512 + 512 * 5 / 8) / (2 * 1024 + 512)
    assert dataset.pixel_share["train"][NASTY] == pytest.approx(of_one, abs=1e-6)
