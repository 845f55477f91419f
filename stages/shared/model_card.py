"""The model card of an exported variant, in Markdown ("Model Cards for Model Reporting", Mitchell
et al., 2019, in short)."""

import json
from typing import Any, NamedTuple

from stages.shared import vgg
from stages.shared.dataset import Dataset
from stages.shared.exports import FORMATS
from stages.shared.overlay import colours
from stages.shared.params import Backbone, Train, Variant
from stages.shared.schema import SPLITS

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
    """What a model card tells of.

    Attributes:
        name: of the variant.
        variant: its settings.
        training: the settings that it was trained with.
        seed: of the whole pipeline.
        backbone: that it began with.
        parameters: weights of the whole network.
        dataset: that it was trained on.
        split: that it was measured on.
        metrics: what reports/VARIANT/metrics.json holds.
        formats: that it was exported to.
    """

    name: str
    variant: Variant
    training: Train
    seed: int
    backbone: Backbone
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
                f"A fully convolutional network of stride {card.variant.stride} (Long, Shelhamer, "
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
        [str(index), _cell(name), "#{:02x}{:02x}{:02x}".format(*colour)]
        + [f"{dataset.pixel_share[split][name]:.2%}" for split in SPLITS]
        for index, (name, colour) in enumerate(
            zip(dataset.classes, colours(len(dataset.classes)), strict=True)
        )
    ]
    shares = [f"share of {split} pixels" for split in SPLITS]
    return _table(["value", "class", "colour in plots", *shares], rows)


def _data(dataset: Dataset) -> str:
    counts = ", ".join(f"{dataset.pictures(split):,} {split}" for split in SPLITS)
    settings = _settings(dataset.source)
    return f"Pictures: {counts}; {len(dataset.left_out):,} left out.\n\n{settings}"


def _metrics(card: Card) -> str:
    measured = {key: value for key, value in card.metrics.items() if key != "iou"}
    measured |= {f"IoU of {name}": value for name, value in card.metrics["iou"].items()}
    rows = [
        [_cell(name), "no pixel" if value is None else f"{value:.4f}"]
        for name, value in measured.items()
    ]
    return f"On the {card.split} split.\n\n" + _table(["measure", "value"], rows)


def _training(card: Card) -> str:
    trained = {
        "head": "The score layers, on a frozen backbone.",
        "network": "The score layers and the backbone, end to end.",
    }[card.variant.train]
    settings = card.training.model_dump(mode="json")
    if card.variant.train == "network":
        settings["augmentation"] = card.variant.augmentation.model_dump(mode="json")
    begun = {"parent": card.variant.parent, "seed": card.seed}
    return f"{trained}\n\n" + _settings(begun | settings)


def licence(backbone: Backbone) -> str:
    """What is known of the licence of weights that began as `backbone` says."""
    if backbone.weights == "random":
        return (
            "The backbone's weights were drawn at random, so no published weights are inside. "
            "The licence of the training pictures, which is not known here, may bind what was "
            "learnt from them."
        )
    return (
        f"The backbone began with published weights ({backbone.weights}): "
        f"{vgg.NETWORKS[backbone.network].licence}. The licence of the training pictures, which "
        "is not known here, may bind what was learnt from them."
    )


def _settings(settings: dict[str, Any]) -> str:
    return _table(["setting", "value"], [[_cell(k), _cell(_value(v))] for k, v in settings.items()])


def _value(value: Any) -> str:
    """A setting as it stands in params.yaml, near enough."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that can't end a cell or be taken for HTML."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
