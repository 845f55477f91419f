"""Stage `compare`: all variants side by side, in reports/comparison/.

data/evaluation/, data/records/ -> {curves,iou,cost}.csv, learning_curves.png, pictures/*.png
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from stages.compare.settings import Compare
from stages.shared.formats.predictions import Summary
from stages.shared.records.dataset import Dataset
from stages.shared.records.ignore_label import IGNORED
from stages.shared.records.shards import spaced
from stages.shared.results import predicted, scores
from stages.shared.results.overlay import colours, hex_colours, overlay, save
from stages.shared.results.predicted import PANELS, Predicted
from stages.shared.results.variants import backbone_of, cost_texts, seconds_of, variant_names
from stages.shared.runtime import outputs
from stages.shared.runtime.console import counted, or_dash
from stages.shared.runtime.paths import EVALUATION_DIR, EXPORT_DIR, MODELS_DIR, REPORTS_DIR
from stages.shared.runtime.seconds import SECONDS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Split

COMPARISON_DIR = REPORTS_DIR / "comparison"
OUTS = ("curves.csv", "iou.csv", "cost.csv", "learning_curves.png", "pictures")
PANEL_INCHES = 2.6
# Of a row of the legend, and how many classes it has.
LEGEND_INCHES, LEGEND_COLUMNS = 0.2, 8
# Classes that the printed table has a column for.
MOST_COLUMNS = 8
COSTS = "M params", "GFLOP", "MB", "seconds"
# Draw a dollar sign in a name as it is.
rcParams["text.parse_math"] = False


def compare() -> str:
    """Write the comparison's tables and pictures.

    Raises:
        UserError: an evaluation is damaged, or of other records or another split.
    """
    settings, split = read("compare", Compare), read("evaluate.split", Split)
    summaries = {name: Summary.load(name) for name in variant_names()}
    dataset = Dataset.load()
    predicted.require_same(summaries, dataset, split)
    note_former_variants(set(summaries))
    with outputs.writing(*(COMPARISON_DIR / out for out in OUTS)) as staging:
        curves, iou, cost, figure, folder = (COMPARISON_DIR / out for out in OUTS)
        write_rows(
            staging.file(curves),
            ({"variant": name, **row} for name, s in summaries.items() for row in s.history),
        )
        write_rows(
            staging.file(iou),
            (
                {"variant": name, "class": class_name, "iou": value}
                for name, s in summaries.items()
                for class_name, value in s.iou.items()
            ),
        )
        write_rows(
            staging.file(cost),
            (
                {"variant": name, "mean_iou": round(s.mean_iou, 4), **s.cost.model_dump()}
                for name, s in summaries.items()
            ),
        )
        save(learning_curves(summaries), staging.file(figure))
        indices = spaced(settings.pictures, dataset.pictures(split))
        shown = predicted.pictures(dataset, summaries, indices)
        for number, picture in enumerate(shown, 1):
            row = side_by_side(picture, dataset.classes, settings.opacity)
            save(row, staging.folder(folder) / f"picture-{number}.png")
    print(f"\n{table(summaries)}\n")
    for name in (name for name, summary in summaries.items() if not summary.best_epoch):
        print(f"note: no epoch of {name} was better than its start")
    return f"{COMPARISON_DIR}/: {counted(len(summaries), 'variant')} side by side"


def table(summaries: dict[str, Summary]) -> str:
    """The variants' IoU in percent, the best first; each class's where there are few.

    What it took comes last: millions of parameters, GFLOP and MB of stored activations for a
    picture, and seconds for its features, its training and its parents'; `-` where it stores none,
    or a stage has not run here.
    """
    classes = list(next(iter(summaries.values())).iou)
    shown = classes if len(classes) <= MOST_COLUMNS else []
    rows = [["%", "mean IoU", *shown, *COSTS, "backbone"]]
    best_first = sorted(summaries, key=lambda name: summaries[name].mean_iou, reverse=True)
    for name in best_first:
        iou = summaries[name].iou
        values = [summaries[name].mean_iou, *(iou[class_name] for class_name in shown)]
        percent = [or_dash(value, lambda share: f"{share:.1%}"[:-1]) for value in values]
        took, costs = seconds_of(name), cost_texts(summaries[name].cost)
        seconds = "-" if None in took else f"{sum(filter(None, took)):.1f}"
        rows.append([name, *percent, *costs, seconds, backbone_of(name)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def note_former_variants(variants: set[str]) -> None:
    """Print the folders of variants that params.yaml no longer has.

    They are not shown, but dvc.lock counts all of data/evaluation/.
    """
    parents = (EVALUATION_DIR, MODELS_DIR, REPORTS_DIR, EXPORT_DIR)
    measured = [*EVALUATION_DIR.glob("*/summary.json"), *REPORTS_DIR.glob("*/metrics.json")]
    for name in sorted({path.parent.name for path in measured} - variants):
        left = [p / name for p in parents if (p / name).exists()]
        left += sorted(SECONDS_DIR.glob(f"*@{name}.json"))
        print(
            f"note: {name} is not in params.yaml; to remove its outputs: "
            f"rm -r {' '.join(map(str, left))}"
        )


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write a CSV file, its columns the keys of the first row."""
    first, *rest = rows
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerows([first, *rest])


def learning_curves(summaries: dict[str, Summary]) -> Figure:
    """Loss, pixel accuracy and mean IoU by epoch: a colour a variant, dashed on training data."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    # Matplotlib's own ten, where they are enough.
    lines = [f"C{n}" for n in range(10)]
    if len(summaries) > len(lines):
        lines = hex_colours(len(summaries))
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        for number, (name, summary) in enumerate(summaries.items()):
            epochs = [row["epoch"] for row in summary.history]
            for column, style in ((key, "--"), (f"val_{key}", "-")):
                values = [row[column] for row in summary.history]
                label = f"{name} {'training' if column == key else 'validation'}"
                axis.plot(epochs, values, style, color=lines[number], label=label)
        axis.set(title=title, xlabel="epoch (0: before the first step)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if key != "loss":
            axis.set_ylim(bottom=0)
    handles, names = axes[0].get_legend_handles_labels()
    columns = max(2, len(summaries))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def side_by_side(shown: Predicted, classes: list[str], opacity: float) -> Figure:
    """One row: the picture, its mask, and every variant's prediction with its mean IoU."""
    panels = {"picture": shown.image} | {
        title: overlay(shown.image, mask, len(classes), opacity)
        for title, mask in titled_masks(shown, len(classes)).items()
    }
    height, width = shown.image.shape[:2]
    columns = min(len(classes), LEGEND_COLUMNS)
    rows = math.ceil(len(classes) / columns)
    size = (PANEL_INCHES * len(panels), PANEL_INCHES * height / width + 0.7 + LEGEND_INCHES * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels))
    # Of a picture that is larger than its panel, every pixel counts.
    larger = width > PANEL_INCHES * rcParams["figure.dpi"]
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        axis.imshow(panel, interpolation="hanning" if larger else "nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    handles = [
        Patch(color=colour / 255, label=name)
        for colour, name in zip(colours(len(classes)), classes, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(shown.name, fontsize=9, color="0.4")
    return figure


def titled_masks(shown: Predicted, classes: int) -> dict[str, np.ndarray]:
    """The masks by title; pixels that the ground truth ignores are ignored in all."""
    titled = {"ground truth": shown.truth}
    for name, mask in shown.predicted.items():
        counted = np.where(shown.truth == IGNORED, IGNORED, mask)
        if (counted == IGNORED).all():
            titled[name] = counted
            continue
        iou = scores.score(scores.confusion(shown.truth, mask, classes)).mean_iou
        titled[f"{name}: mean IoU {iou:.2f}"] = counted
    return titled
