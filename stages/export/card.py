"""The model card of an exported variant, in Markdown ("Model Cards for Model Reporting", Mitchell
et al., 2019, in short)."""

import json
from typing import Any, NamedTuple

from stages.export.formats import FORMATS
from stages.shared.formats.training import Training
from stages.shared.networks import vgg
from stages.shared.networks.vgg import BackboneConfig
from stages.shared.records.dataset import Dataset
from stages.shared.results.overlay import colours
from stages.shared.results.tables import markdown
from stages.shared.settings.section import SPLITS

FITS = {
    "stretch": "each axis stretched on its own",
    "pad": "the aspect kept, the rest of the frame padded and not counted",
    "crop": "the aspect kept, what stands out cut off",
}
# Pillow's way to the same size; nothing need be padded or cut off.
RESIZES = {
    "stretch": "picture.resize(({width}, {height}), Image.Resampling.BILINEAR)",
    "pad": "ImageOps.contain(picture, ({width}, {height}), Image.Resampling.BILINEAR)",
    "crop": "ImageOps.cover(picture, ({width}, {height}), Image.Resampling.BILINEAR)",
}
READ = """import numpy as np
from PIL import Image, ImageOps

picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
picture = {resize}
pictures = np.asarray(picture)[None]"""


class Card(NamedTuple):
    """Content of a model card.

    Attributes:
        name: of the variant.
        training: how it was trained.
        backbone: its own, or the shared one.
        parameters: weights of the whole network.
        dataset: that it was trained on.
        split: that it was measured on.
        metrics: what reports/VARIANT/metrics.json holds.
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
    return (
        "\n\n".join(
            [
                f"# {card.name}",
                f"A fully convolutional network of stride {card.training.stride} (Long, Shelhamer, "
                f"Darrell, 2015) on {card.backbone.network.upper()}, which gives each pixel of a "
                f"picture one of {len(card.dataset.classes)} classes. "
                f"{card.parameters:,} parameters.",
                "## Use",
                _use(card),
                "## Classes",
                _classes(card.dataset),
                "## Data",
                _data(card.dataset),
                "## Metrics",
                _metrics(card),
                "## Training",
                _training(card),
                "## Licence of the weights",
                licence(card.backbone),
            ]
        )
        + "\n"
    )


def _use(card: Card) -> str:
    height, width = card.dataset.image_size
    resize = RESIZES[card.dataset.fit].format(height=height, width=width)
    lines = [
        "Pictures go in as they are: RGB, uint8 (batch, height, width, 3), any number, height and "
        "width. Out come `classes`, uint8 (batch, height, width), and `probabilities`, float32 "
        "(batch, height, width, classes). The preprocessing is inside.",
        f"It was trained on pictures of {height} x {width} (height x width), "
        f"{FITS[card.dataset.fit]}. Objects should be about as large in yours, so resize pictures "
        "in the same way:",
        f"```python\n{READ.format(resize=resize)}\n```",
        "Then, in this folder, one of:",
    ]
    lines += [f"```python\n{FORMATS[key].use}\n```" for key in card.formats]
    return "\n\n".join(lines)


def _classes(dataset: Dataset) -> str:
    rows = [
        [str(index), name, "#{:02x}{:02x}{:02x}".format(*colour)]
        + [f"{dataset.pixel_share[split][name]:.2%}" for split in SPLITS]
        for index, (name, colour) in enumerate(
            zip(dataset.classes, colours(len(dataset.classes)), strict=True)
        )
    ]
    shares = [f"share of {split} pixels" for split in SPLITS]
    return markdown(["value", "class", "colour in plots", *shares], rows)


def _data(dataset: Dataset) -> str:
    counts = ", ".join(f"{dataset.pictures(split):,} {split}" for split in SPLITS)
    settings = _settings(dataset.source)
    return f"Pictures: {counts}; {len(dataset.left_out):,} left out.\n\n{settings}"


def _metrics(card: Card) -> str:
    measured = {key: value for key, value in card.metrics.items() if key != "iou"}
    measured |= {f"IoU of {name}": value for name, value in card.metrics["iou"].items()}
    rows = [
        [name, "no pixel" if value is None else f"{value:.4f}"] for name, value in measured.items()
    ]
    return f"On the {card.split} split.\n\n" + markdown(["measure", "value"], rows)


def _training(card: Card) -> str:
    trained = {
        "head": "The score layers, on a frozen backbone.",
        "network": "The score layers and the backbone, end to end.",
    }[card.training.train]
    parent, *others = card.training.settings.items()
    return f"{trained}\n\n" + _settings(dict([parent, ("seed", card.training.seed), *others]))


def licence(backbone: BackboneConfig) -> str:
    """What is known of the licence of the weights of a backbone."""
    if backbone.origin == "random":
        return (
            "The backbone's weights were drawn at random, so no published weights are inside. "
            "The licence of the training pictures, which is not known here, may bind what was "
            "learnt from them."
        )
    return (
        f"The backbone began with published weights ({backbone.origin}): "
        f"{vgg.NETWORKS[backbone.network].licence}. The licence of the training pictures, which "
        "is not known here, may bind what was learnt from them."
    )


def _settings(settings: dict[str, Any]) -> str:
    return markdown(["setting", "value"], [[k, _value(v)] for k, v in settings.items()])


def _value(value: Any) -> str:
    """A setting as it stands in params.yaml, near enough."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
