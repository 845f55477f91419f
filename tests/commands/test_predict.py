"""Prediction: any picture, at its own size, in tiles where it is large."""

import argparse
import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from commands.predict import command, inputs, masks
from commands.predict.command import doubts
from commands.predict.inputs import Loaded, PictureTask
from commands.predict.pieces import BlendedTiles, ExactTiles, tiles, window
from commands.predict.reach import reach
from commands.predict.segmenter import Segmenter, Views, class_map, together, way_through
from commands.trained import trained_variants
from stages.prepare.sources import demo
from stages.shared.networks import backbones, heads
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE
from stages.shared.results.overlay import colours
from stages.shared.runtime.errors import UserError
from tests.conftest import Project
from tests.shared.networks.made_up import network_of_ones, rows_seen

ORIENTATION = 0x0112


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture of the demo's generator, uint8 (height, width, 3)."""
    return demo.draw((height, width), (1, seed))[0]


@pytest.fixture
def segment(built_project: Project, monkeypatch):
    """Makes segmenters of the built project's variants."""
    monkeypatch.chdir(built_project.folder)
    return lambda variant, **views: Segmenter([variant], Views(**views))


def only(masks: dict[str, np.ndarray]) -> np.ndarray:
    """The class map of the one variant."""
    (mask,) = masks.values()
    return mask


@pytest.mark.parametrize("variant", ["fcn8s", "fcn8s-finetuned"])
def test_tiles_give_what_the_whole_picture_gives(variant: str, segment):
    picture = drawn(1100, 900)
    whole = only(segment(variant, scale=1.0)(picture))
    in_tiles = segment(variant, scale=1.0, tile=640)
    assert max(picture.shape) > in_tiles.pieces.side
    assert len(np.unique(whole)) > 1
    assert (only(in_tiles(picture)) == whole).mean() >= 0.9999


def test_tiles_and_another_scale_go_together(segment):
    picture = drawn(700, 1400)
    whole = only(segment("fcn8s", scale=0.6)(picture))
    in_tiles = segment("fcn8s", scale=0.6, tile=640)
    assert whole.shape == (700, 1400)
    assert (only(in_tiles(picture)) == whole).mean() >= 0.999


FROZEN = ["fcn32s", "fcn16s", "fcn8s"]


def test_variants_on_one_frozen_backbone_are_one_network_and_give_what_each_gives(segment):
    (frozen,) = together(FROZEN)
    names = [layer.name for layer in frozen.network.layers]
    assert names.count("vgg19") == 1
    picture = drawn(100, 50)
    masks = frozen(picture)
    assert list(masks) == FROZEN
    for variant, mask in masks.items():
        np.testing.assert_array_equal(mask, only(segment(variant)(picture)))


def test_a_command_loads_a_frozen_backbone_once_for_all_of_its_variants(
    segment, pictures: Path, tmp_path: Path, monkeypatch
):
    loaded, load_network = [], heads.load_network

    def noting(folder: Path, policy: str, others: list[Path]) -> keras.Model:
        loaded.append([path.name for path in (folder, *others)])
        return load_network(folder, policy, others)

    monkeypatch.setattr(heads, "load_network", noting)
    chosen = [argument for variant in FROZEN for argument in ("--variant", variant)]
    given = [*chosen, "--out", str(tmp_path / "out"), str(pictures / "a.png")]
    assert command.predict(command.parser().parse_args(given)) == 0
    assert loaded == [FROZEN]


def test_a_backbone_that_fine_tuning_changed_is_run_by_itself(segment):
    shared, own = (
        backbones.load_config(folder).weights
        for folder in (Path("models/vgg19"), Path("models/fcn8s-finetuned/backbone"))
    )
    tuned = "fcn8s-finetuned"
    # One that no epoch made better is still that of the heads.
    expected = [[*FROZEN, tuned]] if own == shared else [FROZEN, [tuned]]
    assert [segmenter.variants for segmenter in together([*FROZEN, tuned])] == expected


def test_several_variants_are_averaged_as_each_alone(segment):
    views = Views(flip=True, scales=[1.0, 1.5])
    picture = drawn(100, 50)
    for variant, mask in Segmenter(FROZEN, views)(picture).items():
        alone = only(segment(variant, flip=True, scales=[1.0, 1.5])(picture))
        np.testing.assert_array_equal(mask, alone)


def test_several_variants_of_a_large_picture_go_through_the_same_tiles(segment):
    picture = drawn(1100, 900)
    for scale in (1.0, 0.9):
        in_tiles = Segmenter(FROZEN, Views(scale=scale, tile=640))(picture)
        for variant in FROZEN:
            whole = only(segment(variant, scale=scale)(picture))
            assert (in_tiles[variant] == whole).mean() >= 0.999


def test_flips_and_scales_count_as_the_mean_of_their_probabilities(segment):
    """The oracle sees the picture four times by the plain segmenter's network."""
    picture = drawn(64, 64)
    network = segment("fcn8s").network
    expected = np.zeros((64, 64, len(demo.CLASSES)))
    for side in (64, 96):
        image = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
        for turned, back in ((image, lambda x: x), (np.fliplr(image), np.fliplr)):
            logits = back(network.predict_on_batch(turned[None])[0])
            planes = [
                np.asarray(Image.fromarray(plane).resize((64, 64), Image.Resampling.BILINEAR))
                for plane in np.moveaxis(np.ascontiguousarray(logits), -1, 0)
            ]
            odds = np.exp(np.stack(planes, axis=-1).astype(np.float64))
            expected += odds / odds.sum(axis=-1, keepdims=True)
    seen = only(segment("fcn8s", flip=True, scales=[1.0, 1.5])(picture))
    assert (seen == expected.argmax(axis=-1)).mean() >= 0.999
    assert (seen != only(segment("fcn8s")(picture))).any()


@pytest.mark.parametrize("size", [(64, 64), (1000, 700), (129, 4096)], ids=str)
def test_tiles_cover_each_pixel_once_with_the_margin_around_it(size: tuple[int, int]):
    covered = np.zeros(size, int)
    for tile in tiles(size, core=128, margin=256):
        covered[tile.kept] += 1
        for read, kept, length in zip(tile.read, tile.kept, size, strict=True):
            assert read.start == max(kept.start - 256, 0)
            assert read.stop == min(kept.start + 128 + 256, length)
            assert read.start % COARSEST_STRIDE == 0
    assert (covered == 1).all()


@pytest.mark.parametrize("size", [(64, 64), (1300, 700), (129, 2100)], ids=str)
def test_blended_tiles_count_as_one_wherever_they_overlap(size: tuple[int, int]):
    total = np.zeros(size, np.float32)
    for tile in tiles(size, core=512, margin=64):
        share = window(tile, size, 64)
        assert share.min() > 0
        total[tile.read] += share[..., 0]
    # Where the last tile is narrower than an overlap, three of them meet, and the mean is taken.
    assert total.min() > 0.999
    inner = total[:1088, :576]
    np.testing.assert_allclose(inner, 1, atol=1e-5)


def test_blended_tiles_give_nearly_what_the_whole_picture_gives(segment):
    picture, whole = drawn(1100, 900), segment("fcn8s", scale=1.0)
    blended = segment("fcn8s", scale=1.0, tile=640)
    blended.pieces = BlendedTiles(640)
    assert (only(blended(picture)) == only(whole(picture))).mean() >= 0.97


def test_a_tile_that_is_smaller_than_what_the_network_sees_is_refused(segment):
    with pytest.raises(UserError, match=r"a tile of 512 pixels is too small.*use 544 or more"):
        segment("fcn8s", tile=512)


# A network; the widths of its channels and of a picture that is larger than what it sees.
SEEN = {"vgg19": (1 / 64, 1024), "efficientnet_lite0": (1.0, 2048)}


@pytest.mark.parametrize("name", SEEN)
def test_logits_reach_as_far_as_their_gradient(name: str):
    """The logits of a pixel depend on no picture beyond `reach`."""
    width, side = SEEN[name]
    network = whole(name, width)
    rows = rows_seen(network, side)
    far = reach(network)
    # The pixel's tile begins at a multiple of 32.
    assert far is not None
    assert side // 2 - far <= rows.min()
    assert rows.max() <= side // 2 + 31 + far


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_small"])
def test_a_network_with_squeeze_and_excite_sees_the_whole_picture(name: str):
    assert reach(whole(name)) is None


def test_a_network_that_sees_the_whole_picture_goes_through_blended_tiles(
    built_project: Project, monkeypatch
):
    monkeypatch.chdir(built_project.folder)
    head = heads.load_config(Path("models/fcn8s"))
    seeing_all = way_through(whole("mobilenet_v3_small"), head, Views(tile=640), 1)
    assert isinstance(seeing_all, BlendedTiles) and not seeing_all.exact
    exact = way_through(whole("vgg19", 1 / 64), head, Views(tile=1536), 1)
    assert isinstance(exact, ExactTiles) and exact.exact


def test_tiles_that_are_blended_for_what_a_network_sees_are_told(segment):
    network = segment("fcn32s", scale=1.0, tile=640)
    network.pieces = BlendedTiles(640)
    pictures = [np.zeros((side, 600, 3), np.uint8) for side in (640, 700)]
    arguments = argparse.Namespace(scale=None)
    small, large = (
        doubts(
            [network],
            arguments,
            Loaded(PictureTask(Path("a.png"), Path("a")), p, p.shape[:2], None),
        )
        for p in pictures
    )
    assert small == {}
    (sentence,) = large.values()
    assert sentence.startswith("fcn32s: more than a tile may be looked at, so the tiles of a.png")


def test_tiles_that_are_blended_for_flips_are_told(built_project: Project, tmp_path: Path):
    (tmp_path / "in").mkdir()
    Image.fromarray(drawn(620, 560)).save(tmp_path / "in" / "0.png")
    arguments = ["--variant", "fcn32s", "--scale", "1", "--tile", "544", "--flip"]
    where = ("--out", str(tmp_path / "out"), str(tmp_path / "in"))
    done = built_project.command("predict", *arguments, *where)
    (note,) = [line for line in done.stderr.splitlines() if "tiles of" in line]
    assert note.startswith(
        f"note: fcn32s: flips or scales are averaged, so the tiles of {tmp_path}/"
    )
    assert "are blended" in note and "a larger --tile avoids it" in note


def whole(name: str, width: float = 1.0) -> keras.Model:
    """A network with random weights, and random score layers."""
    return network_of_ones(backbones.build(name, width, seed=0), stride=8)


def test_logits_are_resized_as_pillow_does_and_compared_class_by_class():
    logits = np.random.default_rng(0).normal(size=(9, 7, 4)).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(logits[..., c]).resize((50, 30), Image.Resampling.BILINEAR))
        for c in range(4)
    ]
    np.testing.assert_array_equal(class_map(logits, (30, 50)), np.argmax(planes, axis=0))
    np.testing.assert_array_equal(class_map(logits, (9, 7)), logits.argmax(axis=-1))


def test_a_picture_goes_through_at_the_size_that_it_had_in_training(segment):
    made = segment("fcn8s")
    assert made.head.image_size == (64, 64)
    assert made.resized(drawn(100, 50)).shape == (64, 64, 3)
    for fit, expected in (("pad", (64, 32, 3)), ("crop", (128, 64, 3))):
        made.head = made.head.model_copy(update={"fit": fit})
        assert made.resized(drawn(100, 50)).shape == expected


def test_what_the_records_are_like_now_changes_no_prediction(project: Project, tmp_path: Path):
    picture = tmp_path / "a.png"
    Image.fromarray(drawn(100, 50)).save(picture)
    masks = []
    for name in ("before", "after"):
        out = tmp_path / name
        project.command("predict", "--variant", "fcn8s", "--out", str(out), str(picture))
        masks.append((out / "a.png").read_bytes())
        project.set_params({"dataset.image_size": 96, "dataset.fit": "crop"})
        project.run("dvc", "repro", "prepare")
    assert masks[0] == masks[1]


def test_an_unknown_variant_is_named_with_those_there_are(segment):
    with pytest.raises(
        UserError, match=r"'fcn4s' is not a trained variant; models/ has fcn16s, fcn3"
    ):
        segment("fcn4s")
    assert trained_variants() == ["fcn16s", "fcn32s", "fcn8s", "fcn8s-finetuned"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of many kinds and sizes, one of them broken."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    Image.fromarray(drawn(80, 120)).save(folder / "a.png")
    Image.fromarray(drawn(64, 64, 1)).save(folder / "a.jpg")
    Image.fromarray(drawn(90, 60, 2)).convert("L").save(folder / "deeper/grün & <b>.tif")
    Image.fromarray(drawn(90, 61, 3)).convert("P").save(folder / "deeper/palette.gif")
    alpha = np.dstack([drawn(40, 40, 4), np.full((40, 40), 7, np.uint8)])
    Image.fromarray(alpha).save(folder / "alpha.webp", lossless=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(drawn(50, 100, 5)).save(folder / "turned.png", exif=exif)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "notes.txt").write_text("no picture, and not named as one")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


SIZES = {
    "a.png": (120, 80),
    "a.jpg": (64, 64),
    "deeper/grün & <b>.tif": (60, 90),
    "deeper/palette.gif": (61, 90),
    "alpha.webp": (40, 40),
    "turned.png": (50, 100),
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_pictures_becomes_masks_of_their_sizes(
    built_project: Project, pictures: Path, tmp_path: Path, monkeypatch
):
    out = tmp_path / "out"
    done = built_project.command(
        "predict", "--variant", "fcn8s", "--out", str(out), "--overlays", str(pictures), check=False
    )
    assert done.returncode == 1
    assert f"error: {pictures}/broken.jpg: the picture does not decode" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"6 of 7 pictures segmented, in {out}/" in done.stdout

    classes = rows(out / "classes.csv")
    assert [row["class"] for row in classes] == list(demo.CLASSES)
    monkeypatch.chdir(built_project.folder)
    made = Segmenter(["fcn8s"])
    shares = {row["picture"]: row for row in rows(out / "shares.csv")}
    assert len(shares) == len(SIZES)
    for name, size in SIZES.items():
        # Of two that differ in their suffix alone, each keeps it.
        stem = name if name.startswith("a.") else name.rpartition(".")[0]
        with Image.open(out / f"{stem}.png") as mask, Image.open(pictures / name) as picture:
            assert (mask.mode, mask.size) == ("P", size)
            labels = np.asarray(mask)
            palette = np.array(mask.getpalette()).reshape(-1, 3)
            np.testing.assert_array_equal(palette[: len(classes)], colours(len(classes)))
            if not name.startswith("turned"):
                masks = made(np.asarray(picture.convert("RGB")))
                np.testing.assert_array_equal(labels, only(masks))
        with Image.open(out / f"{stem}.overlay.jpg") as overlay:
            assert overlay.size == size
        row = shares[str(pictures / name)]
        assert (int(row["width"]), int(row["height"])) == size
        for index, class_name in enumerate(demo.CLASSES):
            assert float(row[class_name]) == pytest.approx((labels == index).mean(), abs=1e-6)


def test_without_a_variant_it_is_the_best_one(
    built_project: Project, pictures: Path, tmp_path: Path
):
    metrics = {
        path.parent.name: json.loads(path.read_text())["mean_iou"]
        for path in built_project.folder.glob("reports/*/metrics.json")
    }
    best = max(metrics, key=metrics.__getitem__)
    out, named = tmp_path / "out", tmp_path / "named"
    done = built_project.command("predict", "--out", str(out), str(pictures / "a.png"))
    assert f"{best}, a mean IoU of {metrics[best]:.1%}; --variant takes" in done.stdout
    built_project.command(
        "predict", "--variant", best, "--out", str(named), str(pictures / "a.png")
    )
    assert (out / "a.png").read_bytes() == (named / "a.png").read_bytes()


def test_without_an_evaluation_a_variant_has_to_be_named(tmp_path: Path, monkeypatch):
    from commands.predict import command as predict

    (tmp_path / "params.yaml").write_text("variants: {fcn8s: {stride: 8}}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no variant is evaluated yet; `dvc repro` does it, or"):
        predict.best_variant()


def test_several_variants_get_a_folder_each(built_project: Project, pictures: Path, tmp_path: Path):
    names = ["fcn32s", "fcn8s", "fcn8s-finetuned"]
    chosen = [argument for name in names for argument in ("--variant", name)]
    given = [str(pictures / name) for name in ("a.png", "broken.jpg", "turned.png")]
    out = tmp_path / "all"
    done = built_project.command("predict", *chosen, "--out", str(out), *given, check=False)
    assert done.stderr.count("broken.jpg") == 1
    assert "2 of 3 pictures segmented" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        alone = tmp_path / name
        built_project.command("predict", "--variant", name, "--out", str(alone), given[0], given[2])
        for file in ("a.png", "turned.png", "shares.csv", "classes.csv"):
            assert (out / name / file).read_bytes() == (alone / file).read_bytes()


def test_a_run_of_several_variants_replaces_one_of_a_single_one_and_back(
    built_project: Project, pictures: Path, tmp_path: Path
):
    out, picture = tmp_path / "out", str(pictures / "a.png")
    one, both = ("--variant", "fcn32s"), ("--variant", "fcn32s", "--variant", "fcn8s")
    for first, then, left in ((one, both, ["fcn32s", "fcn8s"]), (both, one, ["a.png"])):
        built_project.command("predict", *first, "--out", str(out), "--replace", picture)
        refused = built_project.command("predict", *then, "--out", str(out), picture, check=False)
        assert "has the masks of an earlier run" in refused.stderr
        built_project.command("predict", *then, "--out", str(out), "--replace", picture)
        masks = {path.parent.name for path in out.rglob("a.png")}
        assert masks == ({"out"} if left == ["a.png"] else set(left))


def test_a_picture_is_turned_as_its_exif_says(
    built_project: Project, pictures: Path, tmp_path: Path, monkeypatch
):
    picture = str(pictures / "turned.png")
    built_project.command("predict", "--variant", "fcn32s", "--out", str(tmp_path), picture)
    monkeypatch.chdir(built_project.folder)
    expected = only(Segmenter(["fcn32s"])(np.rot90(drawn(50, 100, 5), -1).copy()))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "turned.png")), expected)


MISTAKES = {
    "no such picture": (["--out", "out", "nowhere.jpg"], "nowhere.jpg does not exist"),
    "a folder without pictures": (
        ["--out", "out", "stages"],
        "stages/ has no picture that Pillow can read",
    ),
    "a variant of another project": (
        ["--variant", "fcn4s", "--out", "out", "{pictures}"],
        "'fcn4s' is not a trained variant",
    ),
    "a picture that would be overwritten": (
        ["--out", "{pictures}", "{pictures}/turned.png"],
        "turned.png is one of your pictures; use another --out",
    ),
    "a picture that one of several variants would overwrite": (
        [
            "--variant",
            "fcn8s",
            "--variant",
            "fcn32s",
            "--out",
            "{pictures}/..",
            "{pictures}/../fcn32s/a.png",
        ],
        "fcn32s/a.png is one of your pictures; use another --out",
    ),
    "the folder of the pictures": (
        ["--out", "{pictures}", "{pictures}"],
        "the folder of your pictures; use another",
    ),
    "two pictures of one name": (
        ["--out", "out", "{pictures}/a.png", "{pictures}/../copy/a.png"],
        "would both become out/a.png.png",
    ),
    "an output that is a file": (
        ["--out", "params.yaml", "{pictures}"],
        "params.yaml can't be written: File exists; use another --out",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_anything_is_written(
    mistake: str, built_project: Project, pictures: Path, monkeypatch
):
    from commands.predict import command as predict

    arguments, message = MISTAKES[mistake]
    copy = pictures.parent / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "a.png").write_bytes((pictures / "a.png").read_bytes())
    (pictures.parent / "fcn32s").mkdir(exist_ok=True)
    (pictures.parent / "fcn32s/a.png").write_bytes((pictures / "a.png").read_bytes())
    monkeypatch.chdir(built_project.folder)
    given = [argument.format(pictures=pictures) for argument in arguments]
    parsed = predict.parser().parse_args(
        given if "--variant" in given else ["--variant", "fcn8s", *given]
    )
    with pytest.raises(UserError, match=message):
        predict.predict(parsed)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("scales", "message"),
    [("1,0", "'0' is no number above 0"), ("1,9", "9 is above 8"), ("x", "'x' is no number above")],
)
def test_a_scale_that_makes_no_sense_is_named(scales: str, message: str, capsys):
    from commands.predict import command as predict

    given = ["--variant", "fcn8s", "--out", "out", "--scales", scales, "a.png"]
    with pytest.raises(SystemExit):
        predict.parser().parse_args(given)
    assert message in capsys.readouterr().err


def test_masks_in_the_folder_of_the_pictures_are_no_pictures(pictures: Path, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(drawn(40, 40)).save(folder / "a.jpg")
    (folder / "masks").mkdir()
    Image.fromarray(drawn(40, 40)).save(folder / "masks/a.png")
    found = inputs.tasks([folder], folder / "masks", [folder / "masks"])
    assert found == [inputs.PictureTask(folder / "a.jpg", Path("a"))]


def test_what_an_earlier_run_has_written_is_replaced_if_wanted_and_nothing_else(
    built_project: Project, pictures: Path, tmp_path: Path
):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in ("notes.txt", "own.png", "sub/own.overlay.jpg"):
        (out / name).write_bytes(b"mine")
    command = ("predict", "--variant", "fcn32s", "--out", str(out), "--overlays")
    both = [str(pictures / name) for name in ("a.png", "a.jpg")]
    built_project.command(*command, *both)
    assert {row["mask"] for row in rows(out / "shares.csv")} == {"a.png.png", "a.jpg.png"}
    refused = built_project.command(*command, str(pictures / "a.png"), check=False)
    assert refused.returncode == 1
    assert f"error: {out}/ has the masks of an earlier run; use another --out" in refused.stderr
    (out / "a.png.overlay.jpg").replace(out / "kept.overlay.jpg")
    built_project.command(*command, "--replace", str(pictures / "a.png"))
    assert {row["mask"] for row in rows(out / "shares.csv")} == {"a.png"}
    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    own = {"notes.txt", "own.png", "sub/own.overlay.jpg", "kept.overlay.jpg"}
    assert left == own | {"a.png", "a.overlay.jpg", "shares.csv", "classes.csv"}


@pytest.mark.parametrize("table", ["", "picture,mask\na.png,own.png\n"])
def test_a_table_that_is_empty_or_of_something_else_removes_no_mask(
    table: str, built_project: Project, pictures: Path, tmp_path: Path
):
    (tmp_path / "own.png").write_bytes(b"mine")
    (tmp_path / "shares.csv").write_text(table)
    command = ("predict", "--variant", "fcn32s", "--out", str(tmp_path), "--replace")
    built_project.command(*command, str(pictures / "a.png"))
    assert (tmp_path / "own.png").read_bytes() == b"mine"
    assert [row["mask"] for row in rows(tmp_path / "shares.csv")] == ["a.png"]


def test_a_mistake_removes_no_mask_of_an_earlier_run(
    built_project: Project, pictures: Path, tmp_path: Path
):
    command = ("predict", "--out", str(tmp_path), str(pictures / "a.png"))
    built_project.command(*command, "--variant", "fcn32s")
    done = built_project.command(*command, "--variant", "fcn4s", "--replace", check=False)
    assert "'fcn4s' is not a trained variant" in done.stderr
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(("size", "far"), [((640, 640), True), ((100, 64), False)])
def test_a_scale_far_from_that_of_the_training_is_noted_once(
    size: tuple[int, int], far: bool, built_project: Project, tmp_path: Path
):
    for number in range(3):
        path = tmp_path / f"in/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn(*size)).save(path)
    command = ("predict", "--variant", "fcn32s", "--out", str(tmp_path / "out"), "--batch-size=1")
    done = built_project.command(*command, "--scale", "1", str(tmp_path / "in"))
    noted = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    sentence = f"note: at --scale 1 {tmp_path}/in/0.png is 10 times as large as the pictures in"
    others = f"note: the same holds as for {tmp_path}/in/0.png for {tmp_path}/in/1.png, {tmp_path}/"
    expected = [sentence, others] if far else []
    assert [line[: len(e)] for line, e in zip(noted, expected, strict=True)] == expected
    again = built_project.command(*command, "--replace", str(tmp_path / "in"))
    assert "note: " not in again.stderr


def test_a_large_scale_makes_the_tiles_no_smaller_than_can_be_blended(segment):
    segmenter_ = segment("fcn8s", scales=[1.0, 3.0])
    assert only(segmenter_(drawn(40, 50))).shape == (40, 50)
    with pytest.raises(UserError, match=r"a tile of 512 pixels is too small.*use 1632 or more"):
        segment("fcn8s", scales=[1.0, 3.0], tile=512)
    segment("fcn8s", scales=[1.0, 3.0], tile=1632)


def test_a_picture_that_is_named_twice_is_one(pictures: Path, tmp_path: Path):
    given = [pictures, pictures / "a.png", pictures / "a.png", pictures / "." / "a.png"]
    found = inputs.tasks(given, tmp_path, [tmp_path])
    assert found == inputs.tasks(given[:1], tmp_path, [tmp_path])


def test_any_name_of_a_file_goes_into_the_table_and_out_of_it(tmp_path: Path):
    """Names are bytes; and a spreadsheet saves a table with a mark at its beginning."""
    name = os.fsdecode(b"caf\xe9")
    task = inputs.PictureTask(tmp_path / f"{name}.jpg", Path(name))
    mask = np.zeros((4, 4), np.uint8)
    loaded = inputs.Loaded(task, drawn(4, 4), (4, 4), None)
    with ExitStack() as stack:
        written = masks.Masks(tmp_path, ["a", "b"], stack)
        written.add(loaded, mask)
        masks.write(tmp_path, loaded, mask, 2)
    table = tmp_path / masks.TABLE
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    masks.remove_former(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]


def test_pictures_below_the_output_folder_are_pictures_if_they_are_asked_for(tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(drawn(8, 8)).save(photos / "a.png")
    for name in ("leaflet.pdf", "film.mpg", "data.h5"):
        (photos / name).write_bytes(b"no picture")
    found = inputs.tasks([photos], tmp_path, [tmp_path])
    assert found == [inputs.PictureTask(photos / "a.png", Path("a"))]
