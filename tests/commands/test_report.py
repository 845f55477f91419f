"""`python -m commands.report`: the page in a real browser without a network, and what it tells."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from commands.report import command as report
from stages.evaluate import stage as evaluate
from stages.shared.formats import predictions
from stages.shared.formats.predictions import Cost, Summary
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import Record
from stages.shared.results import scores
from stages.shared.results.overlay import overlay
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError
from tests.conftest import Project, copy_project
from tests.pipeline.test_plots_page import NO_FILE, WIDTHS, expect_drawn, scrolls_sideways

NASTY = "</script><script>owned = 1</script><img src=x onerror='owned = 1'> \"{{ 7 * 7 }}\" & co"
CLASSES = [NASTY, "disc", "ring"]
SIZE = 32
VARIANTS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-finetuned")
LAYERS = ("picture", "ground truth", *VARIANTS)
# How often each variant takes one class for the next.
MISTAKES = dict(zip(VARIANTS, (0.5, 0.3, 0.1, 0.2), strict=True))
BEST = "fcn8s"
UNCOUNTED = 3

Opened = Callable[..., Page]


class Evaluated(NamedTuple):
    """A picture, its mask and what each variant makes of it."""

    record: Record
    predicted: dict[str, np.ndarray]

    def mean_iou(self, variant: str) -> float | None:
        """By its definition, for each class in the truth; None if no pixel counts."""
        counted, mask = self.record.mask != IGNORED, self.predicted[variant]
        shares = []
        for index in range(len(CLASSES)):
            truth, found = (self.record.mask == index) & counted, (mask == index) & counted
            if truth.any():
                shares.append((truth & found).sum() / (truth | found).sum())
        return float(np.mean(shares)) if shares else None


def evaluated(number: int) -> Evaluated:
    """A picture; each of its classes is a band, the third in every other one."""
    rng = np.random.default_rng(number)
    mask = np.repeat(np.arange(SIZE) * (2 + number % 2) // SIZE, SIZE).reshape(SIZE, SIZE)
    mask = mask.astype(np.uint8)
    mask[:, :4] = IGNORED
    if number == UNCOUNTED:
        mask[:] = IGNORED
    predicted = {}
    for variant, share in MISTAKES.items():
        # Squares of 2 x 2 pixels, which JPEG does not blur away.
        wrong = rng.random((SIZE // 2, SIZE // 2)) < share * (0.5 + rng.random())
        wrong = wrong.repeat(2, axis=0).repeat(2, axis=1)
        shown = np.where(mask == IGNORED, 0, mask)
        predicted[variant] = np.where(wrong, (shown + 1) % len(CLASSES), shown).astype(np.uint8)
    ramp = np.linspace(40, 200, SIZE).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(25 * number)), axis=-1)
    return Evaluated(Record(f"{number} {NASTY}", image, mask), predicted)


# Learning curves, IoU by class, cost; one of each variant is beside.
CHARTS = 3 + 1 + 1
COST = Cost(parameters=1_234_567, gflop=0.5, feature_bytes=250_000, passes=1)
PICTURES = [evaluated(number) for number in range(8)]


def write_results(folder: Path) -> None:
    """What the stages leave of these pictures, by the stages' own writers."""
    (folder / "data/records").mkdir(parents=True)
    of_split = {}
    for split in ("train", "validation", "test"):
        path = folder / f"data/records/{split}-00000.tfrecord"
        shards.write(path, (picture.record for picture in PICTURES))
        digest = digests.digest(path)
        of_split[split] = [Shard(file=path.name, pictures=len(PICTURES), digest=digest)]
    counts = np.bincount(np.concatenate([p.record.mask.ravel() for p in PICTURES]), minlength=256)
    pixels = dict(zip(CLASSES, counts.tolist(), strict=False))
    dataset = Dataset(
        source={"source": "folder"},
        image_size=(SIZE, SIZE),
        fit="stretch",
        classes=CLASSES,
        pixels=dict.fromkeys(of_split, pixels),
        shards=of_split,
        left_out=[],
    )
    dataset.write(folder / "data/dataset.json")
    for variant in VARIANTS:
        write_evaluation(folder, variant, dataset)
    (folder / "reports/dataset").mkdir()
    (folder / "reports/dataset/index.html").write_text("<h1>Data set</h1>")


def write_evaluation(folder: Path, variant: str, dataset: Dataset) -> None:
    """What evaluate leaves of a variant."""
    out, reports = folder / "data/evaluation" / variant, folder / "reports" / variant
    out.mkdir(parents=True)
    reports.mkdir()
    confusion = sum(
        scores.confusion(p.record.mask, p.predicted[variant], len(CLASSES)) for p in PICTURES
    )
    result = scores.score(confusion)
    iou = dict(zip(CLASSES, result.iou.round(5).tolist(), strict=True))
    evaluate.write_metrics(reports / "metrics.json", MISTAKES[variant], result, COST, iou)
    evaluate.write_confusion(reports / "confusion.csv", confusion, CLASSES)
    masks = (picture.predicted[variant] for picture in PICTURES)
    columns = ("loss", "pixel_accuracy", "mean_iou")
    history = [
        {"epoch": epoch} | {f"{data}{c}": 0.1 * epoch for c in columns for data in ("", "val_")}
        for epoch in range(3)
    ]
    Summary(
        split="test",
        records=dataset.digest,
        predictions=predictions.write(out / predictions.PREDICTIONS_FILE, masks),
        cost=COST,
        iou=iou,
        history=history,
    ).write(out / predictions.SUMMARY_FILE)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with results whose names are HTML, and the report of them."""
    project = copy_project(tmp_path_factory.mktemp("results") / "project")
    write_results(project.folder)
    project.command("report")
    return project


@pytest.fixture
def copied(results: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    shutil.copytree(results.folder, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def page(results: Project, open_file: Opened) -> Page:
    """The report's page."""
    folder = results.folder / "reports"
    return open_file(folder / "index.html", within=folder)


def choice(page: Page, name: str) -> Locator:
    """One of the page's select boxes, by the name that a screen reader says."""
    return page.get_by_role("combobox", name=name, exact=True)


def shown_numbers(page: Page) -> list[int]:
    """The pictures in the gallery, in its order."""
    return [int(name.split()[0]) for name in page.locator(".cards .name").all_inner_texts()]


def worst_first(variant: str) -> list[int]:
    """The pictures from the lowest mean IoU to the highest, then the one that has none."""
    counted = [number for number in range(len(PICTURES)) if number != UNCOUNTED]
    ordered = sorted(counted, key=lambda number: PICTURES[number].mean_iou(variant))
    return [*ordered, UNCOUNTED]


def pixels(images: Locator) -> list[np.ndarray]:
    """What a page's images show, uint8 (height, width, 3) each."""
    drawn = images.evaluate_all(
        """all => Promise.all(all.map(async (image) => {
          image.loading = "eager";
          await image.decode();
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          return [image.naturalWidth, image.naturalHeight, image.getAttribute("src")];
        }))"""
    )
    folder = Path(images.page.evaluate("decodeURI(location.pathname)")).parent
    decoded = []
    for width, height, source in drawn:
        with Image.open(folder / source) as image:
            assert image.size == (width, height)
            decoded.append(np.asarray(image))
    return decoded


def expected_layer(number: int, layer: str) -> np.ndarray:
    """What a layer of a picture is to show."""
    record, predicted = PICTURES[number]
    if layer == "picture":
        return record.image
    mask = record.mask if layer == "ground truth" else predicted[layer]
    counted = np.where(record.mask == IGNORED, IGNORED, mask)
    return overlay(record.image, counted, len(CLASSES), 0.6)


def shows(found: np.ndarray, number: int, layer: str) -> bool:
    """Whether what JPEG has left is nearer to this layer of the picture than to any other."""
    far = {
        name: np.abs(found.astype(float) - expected_layer(number, name)).mean() for name in LAYERS
    }
    return far[layer] == min(far.values()) < 20


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_real_run_is_reported_without_a_network(width: int, project: Project, open_file: Opened):
    done = project.command("report")
    assert "reports/index.html, 3 of 3 pictures" in done.stdout
    page = open_file(
        project.folder / "reports/index.html", within=project.folder / "reports", width=width
    )
    variants = list(project.params["variants"])
    expect_drawn(page, CHARTS + len(variants))
    assert not scrolls_sideways(page)
    assert len(pixels(page.locator(".cards img"))) == 3
    rows = page.locator("#metrics tbody tr").all()
    assert [row.locator("th").inner_text() for row in rows] == variants
    for row, variant in zip(rows, variants, strict=True):
        metrics = json.loads((project.folder / f"reports/{variant}/metrics.json").read_text())
        assert f"{metrics['mean_iou']:.4f}" in row.inner_text()
        assert f"{metrics['loss']:.4f}" in row.inner_text()
    page.get_by_role("link", name="More about the data set").click()
    expect(page).to_have_title("Data set")


def test_the_best_of_every_measure_is_marked(page: Page):
    best = page.locator("#metrics tbody tr", has_text=re.compile(rf"^{BEST}\b(?!-)"))
    expect(best.locator("td.best")).to_have_count(5)
    expect(page.locator("#metrics td.best")).to_have_count(5)
    expect(best.locator("td").first).to_contain_text("(best)")


def test_what_each_variant_costs_stands_beside_its_mean_iou(page: Page):
    rows = page.locator("#cost tbody tr").all()
    assert [row.locator("th").inner_text() for row in rows] == list(VARIANTS)
    for row in rows:
        backbone, mean_iou, *cost = row.locator("td").all_inner_texts()
        assert (backbone, mean_iou[:2]) == ("vgg19", "0.")
        # No stage has run here, so none has noted its seconds.
        assert cost == ["1.23", "0.5", "0.250", "-", "-"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_worst_first_is_by_the_iou_of_the_chosen_variant(variant: str, page: Page):
    choice(page, "of").select_option(label=variant)
    assert shown_numbers(page) == worst_first(variant)
    choice(page, "Order").select_option("best")
    *counted, last = worst_first(variant)
    assert shown_numbers(page) == [*reversed(counted), last]
    choice(page, "Order").select_option("name")
    assert shown_numbers(page) == list(range(len(PICTURES)))


def test_it_begins_with_the_worst_of_the_best_variant_and_shows_its_masks_and_iou(page: Page):
    assert shown_numbers(page) == worst_first(BEST)
    expect(page.get_by_role("radio", name=BEST, exact=True)).to_be_checked()
    told = page.locator(".cards .score").all_inner_texts()
    for number, text in zip(worst_first(BEST), told, strict=True):
        iou = PICTURES[number].mean_iou(BEST)
        assert text == ("no pixel counts" if iou is None else f"IoU {iou:.3f}")


def test_the_buttons_and_the_arrow_keys_show_another_layer_of_every_picture(page: Page):
    images = page.locator(".cards img")
    for layer in LAYERS:
        page.locator("#layers").get_by_text(layer, exact=True).click()
        for number, found in zip(shown_numbers(page), pixels(images), strict=True):
            assert shows(found, number, layer)
            assert page.get_by_alt_text(f"{number} {NASTY}: {layer}", exact=True).count() == 1
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="picture")).to_be_checked()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name=LAYERS[-1])).to_be_checked()
    expect(images.first).to_have_attribute("src", re.compile(rf"{LAYERS[-1]}\.jpg$"))


def test_pictures_are_found_by_name_and_by_class(page: Page):
    page.get_by_role("searchbox", name="Name").fill("5 </SCRIPT>")
    assert shown_numbers(page) == [5]
    expect(page.locator("output")).to_contain_text(f"1 of {len(PICTURES)} shown")
    page.get_by_role("searchbox", name="Name").fill("")
    choice(page, "Class").select_option(label="ring")
    with_ring = {n for n, p in enumerate(PICTURES) if (p.record.mask == 2).any()}
    assert shown_numbers(page) == [n for n in worst_first(BEST) if n in with_ring]
    page.get_by_role("searchbox", name="Name").fill("nothing is called so")
    assert shown_numbers(page) == []


def seen(page: Page) -> np.ndarray:
    """The mean colour of each half of what the large view shows, (2, 3)."""
    with Image.open(io.BytesIO(page.locator(".wipe").screenshot())) as image:
        picture = np.asarray(image.convert("RGB")).astype(float)
    return np.stack([half.mean(axis=(0, 1)) for half in np.array_split(picture, 2, axis=1)])


def test_the_slider_wipes_from_one_layer_to_the_other(page: Page):
    page.locator(".cards button").nth(shown_numbers(page).index(4)).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    choice(page, "Left").select_option("picture")
    choice(page, "Right").select_option("ground truth")
    slider = page.get_by_role("slider")
    half = {}
    for position in ("0", "50", "100"):
        slider.fill(position)
        half[position] = seen(page)
    left, right = half["100"], half["0"]
    # Half of it is one and half the other, but for the line between them.
    assert np.abs(half["50"] - [left[0], right[1]]).max() < 5
    assert np.abs(left - right).min(axis=1).max() > 5
    slider.fill("50")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("51")


def test_the_large_view_compares_any_two_layers_and_goes_on_to_the_next_picture(page: Page):
    page.locator(".cards button").first.click()
    dialog = page.get_by_role("dialog")
    first, second = shown_numbers(page)[:2]
    choice(page, "Left").select_option("fcn32s")
    choice(page, "Right").select_option("fcn16s")
    for number in (first, second):
        expect(dialog.get_by_role("heading")).to_have_text(f"{number} {NASTY}")
        right, left = pixels(dialog.locator("img"))
        assert shows(left, number, "fcn32s")
        assert shows(right, number, "fcn16s")
        iou = PICTURES[number].mean_iou("fcn32s")
        expect(dialog.get_by_text(f"fcn32s: IoU {iou:.3f}")).to_be_visible()
        page.get_by_role("button", name="next picture").click()
    page.get_by_role("button", name="previous picture").click()
    expect(dialog.get_by_role("heading")).to_have_text(f"{second} {NASTY}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_names_are_text_and_never_html(page: Page):
    expect_drawn(page, CHARTS + len(VARIANTS))
    assert sorted(page.locator(".cards .name").all_inner_texts()) == [
        f"{number} {NASTY}" for number in range(len(PICTURES))
    ]
    expect(page.locator(".legend li").first).to_have_text(NASTY)
    page.locator(".chart .role-mark path").first.hover(force=True)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("typeof owned") == "undefined"


def test_it_fits_a_phone_with_the_large_view_open_too(results: Project, open_file: Opened):
    folder = results.folder / "reports"
    page = open_file(folder / "index.html", within=folder, width=WIDTHS["phone"])
    expect_drawn(page, CHARTS + len(VARIANTS))
    assert not scrolls_sideways(page)
    page.locator(".cards button").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.bounding_box()["width"] <= WIDTHS["phone"]
    assert dialog.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert not scrolls_sideways(page)


def test_the_folder_opens_wherever_it_is_unpacked(copied: Project, tmp_path: Path, open_file):
    packed = shutil.make_archive(str(tmp_path / "mailed"), "zip", copied.folder / "reports")
    shutil.rmtree(copied.folder)
    shutil.unpack_archive(packed, tmp_path / "else where")
    page = open_file(tmp_path / "else where/index.html", within=tmp_path / "else where")
    expect_drawn(page, CHARTS + len(VARIANTS))
    assert len(pixels(page.locator(".cards img"))) == len(PICTURES)


def test_without_vega_it_says_so_and_the_gallery_works(copied: Project, open_file: Opened):
    folder = copied.folder / "reports"
    shutil.rmtree(folder / "vega")
    page = open_file(folder / "index.html", within=folder, tolerated=NO_FILE)
    expect(page.get_by_role("alert").first).to_contain_text("put the folder vega next to this page")
    assert shown_numbers(page) == worst_first(BEST)


def test_of_a_large_split_it_shows_a_part_and_says_which(copied: Project, monkeypatch, open_file):
    monkeypatch.chdir(copied.folder)
    monkeypatch.setattr(report, "MOST_PICTURES", 4)
    monkeypatch.setattr("sys.argv", ["report"])
    report.main()
    folder = copied.folder / "reports"
    page = open_file(folder / "index.html", within=folder)
    assert len(list((folder / "gallery").iterdir())) == 4 * (2 + len(VARIANTS))
    assert shown_numbers(page)[:2] == worst_first(BEST)[:2]
    expect(page.locator("#gallery")).to_contain_text(
        "4 of the 8 pictures of the test split: the 2 with the lowest mean IoU of fcn8s"
    )


def test_the_worst_are_chosen_and_others_evenly_spaced():
    ious = [0.9, None, *np.linspace(0.8, 0.1, 498)]
    indices = report.chosen(ious, 200)
    assert len(set(indices)) == 200 and indices == sorted(indices)
    assert set(range(400, 500)) < set(indices)
    others = [index for index in indices if index < 400]
    assert (others[0], others[-1]) == (0, 399)
    assert set(np.diff(others)) == {4, 5}
    assert report.chosen(ious[:150], 200) == list(range(150))


MISSING = {
    "reports/fcn8s/metrics.json": "`dvc repro` makes it, or `dvc pull` fetches it",
    "reports/fcn16s/confusion.csv": "`dvc repro` makes it, or `dvc pull` fetches it",
    "reports/dataset/index.html": "`dvc repro` makes it, or `dvc pull` fetches it",
    "reports/vega/vega.min.js": "`git checkout reports/vega` restores it",
    "data/evaluation/fcn8s": "`dvc repro` makes it, or `dvc pull` fetches it",
}


@pytest.mark.parametrize("missing", MISSING)
def test_what_is_missing_is_named_and_nothing_is_written(missing: str, copied: Project):
    before = copied.digests("reports/index.html", "reports/gallery")
    path = copied.folder / missing
    path.rename(path.with_name("elsewhere"))
    done = copied.command("report", check=False)
    assert done.returncode == 1
    assert f"error: {missing} is missing; {MISSING[missing]}\n" in done.stderr
    assert copied.digests("reports/index.html", "reports/gallery") == before


def test_metrics_of_another_run_are_refused(copied: Project):
    shutil.copy(
        copied.folder / "reports/fcn32s/metrics.json", copied.folder / "reports/fcn8s/metrics.json"
    )
    done = copied.command("report", check=False)
    assert "reports/fcn8s/metrics.json and data/evaluation/fcn8s/ are of different" in done.stderr
    assert done.returncode == 1


def test_the_same_results_give_the_same_bytes(copied: Project):
    before = copied.digests("reports")
    copied.command("report")
    assert copied.digests("reports") == before


@pytest.mark.parametrize("file", ["metrics.json", "confusion.csv"])
def test_a_report_with_the_marks_of_a_conflict_is_named(file: str, in_project: Project):
    path = Path("reports/fcn8s", file)
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, "<<<<<<< HEAD\n", *rest]))
    message = rf"reports/fcn8s/{file} is damaged: .*`dvc repro .* evaluate@fcn8s`"
    with pytest.raises(UserError, match=message):
        report.read_confusion("fcn8s")
        report.read_metrics("fcn8s", Summary.load("fcn8s"))
