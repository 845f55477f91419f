"""Stage `export@VARIANT`: a trained variant as one network, in every format of `export.formats`.

    models/VARIANT/ -> models/export/VARIANT/{saved_model/, model.onnx, model.tflite, README.md}

Each format is loaded back by its own runtime and must agree with the pipeline's network, in
float32, on pictures of three sizes.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from stages.export import formats
from stages.export.card import Card, model_card
from stages.export.formats import FORMATS, Runtime
from stages.export.settings import Formats
from stages.shared.formats.pictures import Size, resize_picture
from stages.shared.formats.training import SETTINGS_FILE, Training
from stages.shared.networks import backbones, backend, heads
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.runtime import outputs
from stages.shared.runtime.console import size
from stages.shared.runtime.digests import marks_of_conflicts
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import EXPORT_DIR, MODELS_DIR, REPORTS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Split

# Share of the pixels that must get the same class.
AGREEMENT = 0.9999
# Two classes are as good whose logits are nearer than this share of the largest: runtimes round
# differently.
TIE = 1e-4
# Pictures of each size that are compared.
COMPARED = 4


class Sample(NamedTuple):
    """Pictures of one size, uint8 (pictures, height, width, 3), and the pipeline's logits."""

    pictures: np.ndarray
    logits: np.ndarray


def export(name: str) -> str:
    """Write the variant `name` in every format, check each, and write the model card.

    Raises:
        UserError: a format does not agree with the pipeline.
    """
    folder = MODELS_DIR / name
    backend.whole_float32()
    network = heads.load_network(folder)
    dataset, split = Dataset.load(), read("evaluate.split", Split)
    wanted = read("export.formats", Formats)
    need = len(wanted) * backbones.weight_bytes(network)
    with outputs.writing(EXPORT_DIR / name, need=need) as staging:
        target = staging.folder(EXPORT_DIR / name)
        samples = [segmented(network, pictures) for pictures in resized_pictures(dataset, split)]
        model = formats.exportable(network)
        head = heads.load_config(folder)
        thin = formats.thin(model, backbones.load_config(folder / backbones.BACKBONE_FOLDER), head)
        for key in wanted:
            written = FORMATS[key]
            written.write(model, thin, head.classes, target / written.path)
            require_agreement(written.read(target / written.path), samples, key)
        card = describe(name, network, dataset, split, wanted)
        (target / "README.md").write_text(model_card(card), encoding="utf-8")
    return f"{EXPORT_DIR / name}/: {', '.join(wanted)}, {size(EXPORT_DIR / name)}"


def describe(
    name: str, network: keras.Model, dataset: Dataset, split: str, formats: list[str]
) -> Card:
    """The content of the model card of a variant."""
    path = REPORTS_DIR / name / "metrics.json"
    with marks_of_conflicts(path):
        metrics = json.loads(path.read_text(encoding="utf-8"))
    return Card(
        name=name,
        training=Training.read(MODELS_DIR / name / SETTINGS_FILE),
        backbone=backbones.load_config(MODELS_DIR / name / backbones.BACKBONE_FOLDER),
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
    for wanted in sizes(dataset.image_size):
        yield np.stack([resize_picture(image, wanted) for image in images])


def segmented(network: keras.Model, pictures: np.ndarray) -> Sample:
    """Pictures and the pipeline's logits of them."""
    return Sample(pictures, network.predict_on_batch(pictures))


def require_agreement(runtime: Runtime, samples: list[Sample], key: str) -> None:
    """Fail unless a runtime gives the pipeline's class maps.

    Raises:
        UserError: the class maps differ; states the size and the share of equal pixels.
    """
    for pictures, logits in samples:
        found = runtime(pictures)["classes"]
        agreement, last = 0.0, logits.shape[-1] - 1
        if found.shape == logits.shape[:-1]:
            known = np.minimum(found, last)[..., None].astype(np.intp)
            missing = logits.max(axis=-1) - np.take_along_axis(logits, known, axis=-1)[..., 0]
            agrees = (found <= last) & (missing <= TIE * np.abs(logits).max())
            agreement = float(agrees.mean())
        if agreement < AGREEMENT:
            size = "{} x {}".format(*pictures.shape[1:3])
            raise UserError(
                f"the format {key} gives the pipeline's class on {agreement:.4%} of the pixels of "
                f"pictures of {size}; {AGREEMENT:.2%} are required; remove it from export.formats"
            )
