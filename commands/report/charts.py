"""Charts of the results as Vega-Lite specifications, their data in them."""

from typing import Any

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# As wide as the page has room for; the height is the plot's own.
FLUID = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
# In pixels: a bar's height, and the side of a confusion matrix's field.
BAR, FIELD = 14, 38


def learning_curves(
    histories: dict[str, list[dict[str, int | float]]], key: str, title: str
) -> Spec:
    """A measure by epoch, a colour a variant, dashed on training data.

    Args:
        histories: of each variant, the rows of its history.csv.
        key: of the measure in these rows; on validation data, after `val_`.
        title: of the chart.
    """
    values = [
        {"variant": name, "epoch": row["epoch"], "data": data, "value": row[column]}
        for name, rows in histories.items()
        for row in rows
        for data, column in (("validation", f"val_{key}"), ("training", key))
    ]
    return {
        **_spec(values),
        **FLUID,
        "title": title,
        "height": 260,
        "params": [
            {
                "name": "picked",
                "select": {"type": "point", "fields": ["variant"]},
                "bind": "legend",
            }
        ],
        "mark": {"type": "line", "tooltip": True, "clip": True},
        "encoding": {
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "title": "epoch (0: before the first step)",
                "axis": {"format": "d"},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"zero": key != "loss"},
            },
            "color": _by_variant(histories, symbolType="stroke"),
            "strokeDash": {
                "field": "data",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["validation", "training"], "range": [[1, 0], [4, 3]]},
            },
            "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.15},
        },
    }


def iou_by_class(iou: dict[str, dict[str, float | None]]) -> Spec:
    """Bars, grouped by class, a colour a variant.

    Args:
        iou: of each variant, of each class, 0 to 1, or None for a class that does not occur.
    """
    values = [
        {"variant": name, "class": class_name, "iou": value}
        for name, by_class in iou.items()
        for class_name, value in by_class.items()
        if value is not None
    ]
    return {
        **_spec(values),
        **FLUID,
        "height": len({row["class"] for row in values}) * (len(iou) + 1) * BAR,
        "encoding": {
            "y": {"field": "class", "type": "nominal", "title": None, "sort": None},
            "yOffset": {"field": "variant", "type": "nominal", "sort": list(iou)},
            "x": {
                "field": "iou",
                "type": "quantitative",
                "title": "IoU",
                "scale": {"domain": [0, 1]},
                "axis": {"tickCount": 5},
            },
        },
        "layer": [
            {
                "mark": {"type": "bar", "tooltip": True},
                "encoding": {"color": _by_variant(iou)},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 3, "fontSize": 10},
                "encoding": {"text": {"field": "iou", "format": ".2f"}},
            },
        ],
    }


def confusion(rows: list[dict[str, Any]]) -> Spec:
    """A confusion matrix as shares of the true class, with numbers.

    Args:
        rows: of confusion.csv.
    """
    share = {"field": "share", "type": "quantitative", "format": ".2f"}
    return {
        **_spec(rows),
        "width": {"step": FIELD},
        "height": {"step": FIELD * 0.8},
        "encoding": {
            "x": {
                "field": "predicted",
                "type": "nominal",
                "sort": None,
                "axis": {"orient": "top", "labelAngle": -40},
            },
            "y": {"field": "truth", "type": "nominal", "sort": None},
            "tooltip": [
                {"field": "truth"},
                {"field": "predicted"},
                {"field": "share", "format": ".2%"},
                {"field": "pixels", "format": ","},
            ],
        },
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "share",
                        "type": "quantitative",
                        "scale": {"scheme": "blues", "domain": [0, 1]},
                        "legend": None,
                    }
                },
            },
            {
                "mark": "text",
                "encoding": {
                    "text": share,
                    "color": {
                        "condition": {"test": "datum.share > 0.5", "value": "white"},
                        "value": "black",
                    },
                },
            },
        ],
    }


def _by_variant(variants: dict[str, Any], **legend: str) -> Spec:
    """A colour for each variant, in their order."""
    return {
        "field": "variant",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(variants), "scheme": "tableau10"},
        "legend": {"columns": 2} | legend,
    }


def _spec(values: list[dict[str, Any]]) -> Spec:
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "config": {
            "legend": {"orient": "bottom", "direction": "horizontal"},
            "view": {"stroke": None},
            "axis": {"labelLimit": 120},
        },
    }
