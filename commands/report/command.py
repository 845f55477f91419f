"""Report: all results on one page without network access. Not a stage of dvc.yaml; run by hand.

    python -m commands.report

What prepare, train and evaluate wrote -> reports/index.html, reports/gallery/. The page reads
nothing from outside reports/, so that folder can be zipped and mailed.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from commands.arguments import command_line
from commands.report import charts
from commands.trained import note_untrained
from stages.shared.formats.predictions import Summary
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import spaced
from stages.shared.results import predicted, scores
from stages.shared.results.overlay import hex_colours, overlay
from stages.shared.results.pages import render
from stages.shared.results.predicted import Predicted
from stages.shared.results.variants import backbone_of, cost_texts, seconds_of, variant_names
from stages.shared.runtime import outputs
from stages.shared.runtime.console import bar, or_dash, size
from stages.shared.runtime.digests import marks_of_conflicts
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import EVALUATION_DIR, REPORTS_DIR
from stages.shared.settings import reading
from stages.shared.settings.section import SPLITS, Share, Split

PAGE_FILE, GALLERY_DIR = REPORTS_DIR / "index.html", REPORTS_DIR / "gallery"
VEGA_DIR, DATASET_PAGE = REPORTS_DIR / "vega", REPORTS_DIR / "dataset/index.html"
VEGA_FILES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
TEMPLATE = Path(__file__).with_name("page.html.j2")
MOST_PICTURES = 200
# Longest side in pixels of a picture in the gallery.
LONGEST_SIDE = 512
JPEG_QUALITY = 85
# Of metrics.json: its name on the page, and which of several values is the best.
MEASURES: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "mean_iou": ("mean IoU", max),
    "pixel_accuracy": ("pixel accuracy", max),
    "mean_accuracy": ("mean accuracy", max),
    "frequency_weighted_iou": ("frequency-weighted IoU", max),
    "loss": ("loss", min),
}
# What a variant takes, beside what it gives: titles of columns.
COSTS = (
    "backbone",
    "mean IoU",
    "million parameters",
    "GFLOP a picture",
    "MB of features a picture",
    "features, s",
    "training, s",
)

# Of each variant, by name: the mean IoU of one picture, None where none of its pixels counts.
PictureIou = dict[str, float | None]


class Results(NamedTuple):
    """Results of the stages.

    Attributes:
        dataset: what the records hold.
        split: that was measured.
        opacity: of masks over pictures, 0 to 1.
        summaries: of each variant, by name, the coarsest stride first.
        metrics: what its metrics.json holds.
        confusion: the rows of its confusion.csv.
    """

    dataset: Dataset
    split: str
    opacity: float
    summaries: dict[str, Summary]
    metrics: dict[str, dict[str, Any]]
    confusion: dict[str, list[dict[str, Any]]]

    @property
    def best(self) -> str:
        """The variant with the highest mean IoU."""
        return max(self.metrics, key=lambda name: self.metrics[name]["mean_iou"])


class Cell(NamedTuple):
    """A value of a table as text, and whether it is the best of those it is compared with."""

    text: str
    best: bool


def main() -> None:
    """Write the page and its gallery.

    Raises:
        UserError: something is missing, damaged, or does not belong together.
    """
    command_line(__doc__).parse_args()
    results = read()
    ious = measure(results)
    indices = chosen([iou[results.best] for iou in ious], MOST_PICTURES)
    with outputs.writing(PAGE_FILE, GALLERY_DIR) as staging:
        cards = draw(results, ious, indices, staging.folder(GALLERY_DIR))
        staging.file(PAGE_FILE).write_text(page(results, cards), encoding="utf-8")
    note_untrained(results.summaries)
    print(f"{PAGE_FILE}, {len(cards)} of {len(ious)} pictures; {REPORTS_DIR}/: {size(REPORTS_DIR)}")


def read() -> Results:
    """Read what the stages wrote.

    Raises:
        UserError: something is missing, damaged, or does not belong together.
    """
    names = variant_names()
    split = reading.read("evaluate.split", Split)
    require_there(names)
    dataset = Dataset.load()
    summaries = {name: Summary.load(name) for name in names}
    predicted.require_same(summaries, dataset, split)
    metrics = {name: read_metrics(name, summary) for name, summary in summaries.items()}
    confusion = {name: read_confusion(name) for name in names}
    opacity = reading.read("compare.opacity", Share)
    return Results(dataset, split, opacity, summaries, metrics, confusion)


def require_there(variants: list[str]) -> None:
    """Fail on the first file that is missing.

    Raises:
        UserError: names it and the command that makes it.
    """
    for path in (VEGA_DIR / file for file in VEGA_FILES):
        if not path.exists():
            raise UserError(f"{path} is missing; `git checkout {VEGA_DIR}` restores it")
    folders = (REPORTS_DIR / name for name in variants)
    written = [folder / file for folder in folders for file in ("metrics.json", "confusion.csv")]
    written += [EVALUATION_DIR / name for name in variants]
    for path in (*written, DATASET_PAGE):
        if not path.exists():
            raise UserError(f"{path} is missing; `dvc repro` makes it, or `dvc pull` fetches it")


def read_metrics(name: str, summary: Summary) -> dict[str, Any]:
    """What a variant's metrics.json holds.

    Raises:
        UserError: it is damaged, or not of the run that the variant's evaluation is of.
    """
    path = REPORTS_DIR / name / "metrics.json"
    with marks_of_conflicts(path):
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if metrics["iou"] != summary.iou:
        raise UserError(
            f"{path} and {EVALUATION_DIR / name}/ are of different runs; "
            f"`dvc repro evaluate@{name}` or `dvc checkout` makes them consistent"
        )
    return metrics


def read_confusion(name: str) -> list[dict[str, Any]]:
    """The rows of a variant's confusion.csv: truth, predicted, pixels, share of the true class.

    Raises:
        UserError: it is damaged.
    """
    path = REPORTS_DIR / name / "confusion.csv"
    with marks_of_conflicts(path), path.open(newline="", encoding="utf-8") as file:
        return [
            row | {"pixels": int(row["pixels"]), "share": float(row["share"])}
            for row in csv.DictReader(file)
        ]


def pictures(results: Results, indices: Sequence[int], told: str) -> Iterable[Predicted]:
    """Pictures of the split with all masks of them, one by one; `told` labels the progress."""
    with bar(told, len(indices)) as progress:
        for picture in predicted.pictures(results.dataset, results.summaries, indices):
            yield picture
            progress.update()


def measure(results: Results) -> list[PictureIou]:
    """The mean IoU of every picture, in the split's order."""
    classes = len(results.dataset.classes)

    def mean_iou(truth: np.ndarray, mask: np.ndarray) -> float | None:
        counts = scores.confusion(truth, mask, classes)
        return round(scores.score(counts).mean_iou, 5) if counts.any() else None

    return [
        {name: mean_iou(shown.truth, mask) for name, mask in shown.predicted.items()}
        for shown in pictures(results, range(results.dataset.pictures(results.split)), "measure")
    ]


def chosen(ious: list[float | None], most: int) -> list[int]:
    """Which pictures to show: all, or the worst and, of the others, as many evenly spaced.

    Args:
        ious: mean IoU of each picture.
        most: pictures to show.

    Returns:
        Their indices, ascending.
    """
    worst_first = sorted(range(len(ious)), key=lambda index: (ious[index] is None, ious[index]))
    worst, others = worst_first[: most // 2], sorted(worst_first[most // 2 :])
    places = spaced(most - most // 2, len(others))
    return sorted([*worst, *(others[place] for place in places)])


def draw(
    results: Results, ious: list[PictureIou], indices: list[int], folder: Path
) -> list[dict[str, Any]]:
    """Write the gallery's pictures.

    Args:
        results: what to show.
        ious: of every picture of the split.
        indices: the pictures to show.
        folder: to write to.

    Returns:
        Of each: `name`, `classes` (indices of those in its truth), `iou` (of each variant, in their
        order), `files` (of each layer, in the order of `layers`, relative to the page).
    """
    cards = []
    for index, shown in zip(indices, pictures(results, indices, "draw"), strict=True):
        files = []
        for number, (layer, pixels) in enumerate(layers(results, shown).items()):
            file = f"{index:05d}-{number}-{layer}.jpg"
            image = Image.fromarray(pixels)
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            image.save(folder / file, quality=JPEG_QUALITY, subsampling=0)
            files.append(f"{GALLERY_DIR.name}/{file}")
        there = np.unique(shown.truth)
        cards.append(
            {
                "name": shown.name,
                "classes": there[there != IGNORED].tolist(),
                "iou": list(ious[index].values()),
                "files": files,
            }
        )
    return cards


def layers(results: Results, shown: Predicted) -> dict[str, np.ndarray]:
    """A picture, and the same with its truth and each variant's mask; ignored pixels are grey."""
    classes = len(results.dataset.classes)
    masks = {"truth": shown.truth} | {
        name: np.where(shown.truth == IGNORED, IGNORED, mask)
        for name, mask in shown.predicted.items()
    }
    return {"picture": shown.image} | {
        name: overlay(shown.image, mask, classes, results.opacity) for name, mask in masks.items()
    }


def page(results: Results, cards: list[dict[str, Any]]) -> str:
    """The page's HTML."""
    dataset, variants = results.dataset, list(results.summaries)
    histories = {name: summary.history for name, summary in results.summaries.items()}
    return render(
        TEMPLATE,
        dataset=dataset,
        split=results.split,
        total=dataset.pictures(results.split),
        splits=SPLITS,
        left_out=Counter(left.split for left in dataset.left_out),
        variants=variants,
        best=results.best,
        classes=list(zip(dataset.classes, hex_colours(len(dataset.classes)), strict=True)),
        measures=[*(title for title, _ in MEASURES.values()), "best epoch"],
        metrics=metrics_table(results),
        costs=[title.replace("a picture", "a tile") for title in COSTS]
        if dataset.tiling
        else COSTS,
        cost=cost_table(results),
        cost_chart=charts.cost(
            [{"variant": name, **metrics} for name, metrics in results.metrics.items()]
        ),
        iou=iou_table(results),
        curves={
            title: charts.learning_curves(histories, key, title)
            for key, title in predicted.PANELS.items()
        },
        bars=charts.iou_by_class({name: s.iou for name, s in results.summaries.items()}),
        confusion={name: charts.confusion(rows) for name, rows in results.confusion.items()},
        vega_files=[f"{VEGA_DIR.name}/{file}" for file in VEGA_FILES],
        layers=["picture", "ground truth", *variants],
        cards=cards,
    )


def metrics_table(results: Results) -> dict[str, list[Cell]]:
    """A row for each variant, a cell for each of `MEASURES`, and one for the epoch that is kept."""
    columns = [
        marked([metrics[key] for metrics in results.metrics.values()], best)
        for key, (_, best) in MEASURES.items()
    ]
    columns.append([kept_epoch(summary) for summary in results.summaries.values()])
    rows = zip(*columns, strict=True)
    return {name: list(row) for name, row in zip(results.metrics, rows, strict=True)}


def kept_epoch(summary: Summary) -> Cell:
    """The epoch whose weights are kept, of how many; 0 is the start."""
    start = "" if summary.best_epoch else " (the start)"
    return Cell(f"{summary.best_epoch}{start} of {len(summary.history) - 1}", False)


def cost_table(results: Results) -> dict[str, list[Cell]]:
    """A row for each variant, a cell for each of `COSTS`."""
    rows = {}
    for name, summary in results.summaries.items():
        mean_iou = f"{results.metrics[name]['mean_iou']:.4f}"
        took = (or_dash(seconds, "{:.1f}".format) for seconds in seconds_of(name))
        shown = (backbone_of(name), mean_iou, *cost_texts(summary.cost), *took)
        rows[name] = [Cell(text, False) for text in shown]
    return rows


def iou_table(results: Results) -> dict[str, list[Cell]]:
    """A row for each class, a cell for each variant."""
    return {
        class_name: marked([summary.iou[class_name] for summary in results.summaries.values()], max)
        for class_name in results.dataset.classes
    }


def marked(values: list[float | None], best: Callable[[Iterable[float]], float]) -> list[Cell]:
    """Values as cells; a class that does not occur has none."""
    numbers = [value for value in values if value is not None]
    top = best(numbers) if numbers else None
    return [
        Cell(or_dash(value, "{:.4f}".format), value is not None and value == top)
        for value in values
    ]
