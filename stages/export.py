"""Stage `export@VARIANT`: a trained variant as one network, in every format of `export.formats`.

    models/VARIANT/, models/backbone/ -> models/export/VARIANT/{saved_model/, model.onnx,
                                                               model.tflite, README.md}

Each format is loaded back by its own runtime and must agree with the pipeline's network, in
float32, on pictures of three sizes.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from stages.shared import errors, exports, fcn, model_card, outputs, params, vgg
from stages.shared.dataset import Dataset
from stages.shared.errors import UserError
from stages.shared.exports import FORMATS, Runtime
from stages.shared.model_card import Card
from stages.shared.outputs import MODELS_DIR, REPORTS_DIR
from stages.shared.pictures import Size, resize_picture
from stages.shared.records import PictureReader

EXPORT_DIR = MODELS_DIR / "export"
# Share of the pixels that must get the same class.
AGREEMENT = 0.9999
WEIGHT_BYTES = 4
# Pictures of each size that are compared.
COMPARED = 4


class Sample(NamedTuple):
    """Pictures of one size, uint8 (pictures, height, width, 3), and the pipeline's class maps."""

    pictures: np.ndarray
    classes: np.ndarray


def export(name: str) -> None:
    """Write the variant `name` in every format, check each, and write the model card.

    Raises:
        UserError: a format does not agree with the pipeline.
    """
    folder = MODELS_DIR / name
    network = fcn.load_network(folder)
    dataset, split = Dataset.load(), params.read("evaluate.split")
    formats = params.read("export.formats")
    need = len(formats) * WEIGHT_BYTES * network.count_params()
    with outputs.writing(EXPORT_DIR / name, need=need) as staging:
        target = staging.folder(EXPORT_DIR / name)
        samples = [segmented(network, pictures) for pictures in resized_pictures(dataset, split)]
        model = exports.exportable(network)
        thin = exports.thin(vgg.load_config(vgg.backbone_dir(folder)), fcn.load_head_config(folder))
        for key in formats:
            written = FORMATS[key]
            written.write(model, thin, target / written.path)
            require_agreement(written.read(target / written.path), samples, key)
        card = describe(name, network, dataset, split, formats)
        (target / "README.md").write_text(model_card.model_card(card), encoding="utf-8")


def describe(
    name: str, network: keras.Model, dataset: Dataset, split: str, formats: list[str]
) -> Card:
    """What the model card says of a variant."""
    variant = params.read(f"variants.{name}")
    metrics = json.loads((REPORTS_DIR / name / "metrics.json").read_text(encoding="utf-8"))
    return Card(
        name=name,
        variant=variant,
        training=variant.training(params.read("train")),
        seed=params.read("seed"),
        backbone=params.read("backbone"),
        parameters=network.count_params(),
        dataset=dataset,
        split=split,
        metrics=metrics,
        formats=formats,
    )


def sizes(image_size: Size) -> list[Size]:
    """That of the records, and two that the backbone has to pad: one smaller, one larger."""
    height, width = image_size
    return [image_size, (height * 3 // 4 + 5, width // 2 + 17), (height + 37, width * 3 // 2 - 11)]


def resized_pictures(dataset: Dataset, split: str) -> Iterator[np.ndarray]:
    """The first pictures of a split in each of `sizes`, uint8 (pictures, height, width, 3)."""
    reader = PictureReader(dataset, split)
    images, _ = reader.take(np.arange(min(COMPARED, len(reader))))
    for size in sizes(dataset.image_size):
        yield np.stack([resize_picture(image, size) for image in images])


def segmented(network: keras.Model, pictures: np.ndarray) -> Sample:
    """Pictures with what the pipeline's network makes of them."""
    return Sample(pictures, network.predict_on_batch(pictures).argmax(axis=-1))


def require_agreement(runtime: Runtime, samples: list[Sample], key: str) -> None:
    """Fail unless a runtime gives the pipeline's class maps.

    Raises:
        UserError: says on how many pixels of which size it does not.
    """
    for pictures, expected in samples:
        found = runtime(pictures)["classes"]
        agreement = float(np.mean(expected == found)) if expected.shape == found.shape else 0.0
        if agreement < AGREEMENT:
            size = "{} x {}".format(*pictures.shape[1:3])
            raise UserError(
                f"the format {key} gives the pipeline's class on {agreement:.4%} of the pixels of "
                f"pictures of {size}, not on {AGREEMENT:.2%}; leave it out of export.formats"
            )


if __name__ == "__main__":
    errors.run_stage(export, "VARIANT")
