"""Charts of the results: the plot templates of `dvc plots`, in .dvc/plots/, filled with data."""

from typing import Any

from commands.internals import filled_template

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

# As wide as the page has room for, the legend below.
FLUID = {
    "width": "container",
    "autosize": {"type": "fit-x", "contains": "padding"},
    "config": {"legend": {"orient": "bottom", "direction": "horizontal", "columns": 2}},
}
# Small enough for several beside each other.
SMALL = {"width": {"step": 34}, "height": {"step": 28}}


def learning_curves(histories: dict[str, Rows], key: str, title: str) -> Spec:
    """A measure by epoch: a colour a variant, dashed on training data.

    Args:
        histories: of each variant, the rows of its history.csv.
        key: of the measure in these rows; on validation data, after `val_`.
        title: of the chart.
    """
    rows = [
        {"variant": name, "epoch": row["epoch"], "rev": data, "value": row[column]}
        for data, column in (("validation", f"val_{key}"), ("training", key))
        for name, history in histories.items()
        for row in history
    ]
    spec = _filled("curves", rows, "epoch", "value", title, y_label="")
    # The template has a dash for each revision; here it stands for the data.
    # Its legend has a row of its own: beside that of the variants there is no room for both.
    spec["layer"][0]["encoding"]["strokeDash"] |= {
        "title": None,
        "sort": None,
        "legend": {"orient": "top"},
    }
    spec["encoding"]["y"]["scale"] = {"zero": key != "loss"}
    return spec | FLUID


def iou_by_class(iou: dict[str, dict[str, float | None]]) -> Spec:
    """Bars, grouped by class, a colour a variant.

    Args:
        iou: of each variant, of each class, 0 to 1, or None for a class that does not occur.
    """
    rows = [
        {"variant": name, "class": class_name, "iou": value}
        for name, by_class in iou.items()
        for class_name, value in by_class.items()
        if value is not None
    ]
    return _filled("iou_bars", rows, "class", "iou", y_label="IoU")


def cost(rows: Rows) -> Spec:
    """Mean IoU over GFLOP: a point a variant, from rows as cost.csv has them."""
    spec = _filled("cost", rows, "gflop", "mean_iou", x_label="GFLOP", y_label="mean IoU")
    # The template has a shape for each revision, and here there is one.
    del spec["encoding"]["shape"]
    return spec | FLUID


def confusion(rows: Rows) -> Spec:
    """A confusion matrix as shares of the true class, from the rows of confusion.csv."""
    spec = _filled("confusion_counts", rows, "predicted", "truth")
    spec["layer"][0]["encoding"]["color"]["legend"] = None
    return spec | SMALL


def _filled(template: str, rows: Rows, x: str, y: str, title: str = "", **labels: str) -> Spec:
    """A template with data in it; one that has a facet for each revision without facets."""
    spec = filled_template(template, rows, x, y, title, **labels)
    spec.pop("facet", None)
    return spec | spec.pop("spec", {})
