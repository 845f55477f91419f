"""The model card of an exported variant, in Markdown ("Model Cards for Model Reporting", Mitchell
et al., 2019, in short)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from stages.export.formats import FORMATS
from stages.shared.formats.training import Training
from stages.shared.networks.backbones import BackboneConfig
from stages.shared.networks.families import table
from stages.shared.records.dataset import Dataset
from stages.shared.results.overlay import hex_colours
from stages.shared.results.pages import markdown, render
from stages.shared.results.scores import Scores
from stages.shared.runtime.console import figures
from stages.shared.settings.section import SPLITS

TEMPLATE = Path(__file__).with_name("card.md.j2")
PICTURES = "pictures of {height} x {width} (height x width), "
TRAINED_ON = {
    "stretch": PICTURES + "each axis resized on its own",
    "pad": PICTURES + "the aspect ratio kept, the rest of the frame padded and ignored",
    "crop": PICTURES + "the aspect ratio kept, what extends beyond the frame cut off",
    "tiles": "tiles of {height} x {width} (height x width), cut from pictures at {scale:g} times "
    "their size",
}
# Pillow's way to the same size; nothing need be padded or cut off.
RESIZES = {
    "stretch": "photo.resize(({width}, {height}), Image.Resampling.BILINEAR)",
    "pad": "ImageOps.contain(photo, ({width}, {height}), Image.Resampling.BILINEAR)",
    "crop": "ImageOps.cover(photo, ({width}, {height}), Image.Resampling.BILINEAR)",
    "tiles": "ImageOps.scale(photo, {scale:g}, Image.Resampling.BILINEAR)",
}


# Of metrics.json, what is from 0 to 1, and the loss.
MEASURES = ("loss", *(field for field in Scores._fields if field != "iou"))
DECODERS = {
    "fcn": "A fully convolutional network (Long, Shelhamer, Darrell, 2015)",
    "mlp": "A network with an MLP decoder (SegFormer, Xie et al., 2021)",
    "fpn": "A network with a feature pyramid (Kirillov, Girshick, He, Dollár, 2019)",
}


class Card(NamedTuple):
    """Content of a model card.

    Attributes:
        name: of the variant.
        training: how it was trained.
        backbone: its own, or the shared one.
        parameters: number of weights of the whole network.
        dataset: that it was trained on.
        split: that it was measured on.
        metrics: content of reports/VARIANT/metrics.json.
        formats: that it was exported to.
    """

    name: str
    training: Training
    backbone: BackboneConfig
    parameters: int
    dataset: Dataset
    split: str
    metrics: dict[str, Any]
    formats: list[str]


def model_card(card: Card) -> str:
    """The card's text."""
    dataset, (parent, *others) = card.dataset, card.training.settings.items()
    colours = hex_colours(len(dataset.classes))
    classes = [
        [str(value), name, colour, *(f"{dataset.pixel_share[s][name]:.2%}" for s in SPLITS)]
        for value, (name, colour) in enumerate(zip(dataset.classes, colours, strict=True))
    ]
    shares = [f"share of {split} pixels" for split in SPLITS]
    measured = {key: card.metrics[key] for key in MEASURES}
    measured |= {f"IoU of {name}": value for name, value in card.metrics["iou"].items()}
    metrics = [[k, "no pixel" if v is None else f"{v:.4f}"] for k, v in measured.items()]
    height, width = dataset.image_size
    scale = dataset.tiling.scale if dataset.tiling else 1
    seen = {"height": height, "width": width, "scale": scale}
    return render(
        TEMPLATE,
        card=card,
        gflop=figures(card.metrics["gflop"]),
        passes=card.metrics["passes"],
        network=DECODERS[card.training.settings["decoder"]],
        dataset=dataset,
        splits=SPLITS,
        trained_on=TRAINED_ON[dataset.fit].format_map(seen),
        greys=dataset.source.get("greys"),
        resize=RESIZES[dataset.fit].format_map(seen),
        uses=[FORMATS[key].use for key in card.formats],
        classes=markdown(["value", "class", "colour in plots", *shares], classes),
        data=_settings(dataset.source.items()),
        metrics=markdown(["measure", "value"], metrics),
        training=_settings([parent, ("seed", card.training.seed), *others]),
        licence=table.network(card.backbone.network, card.backbone.preset).licence,
    )


def _settings(settings: Iterable[tuple[str, Any]]) -> str:
    """Settings as they stand in params.yaml, near enough."""
    rows = [
        [key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
        for key, value in settings
    ]
    return markdown(["setting", "value"], rows)
