"""The schema of params.yaml, and its reading.

One class for each section. A stage reads the sections that dvc.yaml declares for it and no other,
with `read`; the `check` stage reads the whole file, with `read_all`.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import yaml
from pydantic import (
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from stages.shared.dataset_params import AnyDataset
from stages.shared.errors import UserError
from stages.shared.schema import Count, Section, Text, shown, validate

PARAMS_FILE = Path("params.yaml")
# Folders of models/ and reports/ that are no variant's.
RESERVED_NAMES = ("backbone", "comparison", "dataset", "export", "gallery", "vega")

# In the flow of a mapping, without quotes.
BARE_COLOUR = re.compile(r"[{,]\s*#[0-9a-fA-F]{6}")

Split = Literal["train", "validation", "test"]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Not strict: PyYAML reads 1e-3, which DVC takes for a number, as a string.
Rate = Annotated[float, Field(strict=False, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=False, ge=0, allow_inf_nan=False)]
Dropout = Annotated[float, Field(strict=False, ge=0, lt=1)]
Share = Annotated[float, Field(strict=False, ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


def _class_weights(value: Any) -> dict[str, float] | str | None:
    """Check `class_weights`."""
    if value is None or value == "balanced":
        return value
    try:
        return TypeAdapter(dict[str, Rate]).validate_python(value)
    except ValidationError:
        raise ValueError(
            f"it is {shown(value)}; it should be balanced, null, or a mapping of class names to "
            "weights above 0"
        ) from None


ClassWeights = Annotated[
    dict[str, float] | str | None,
    PlainValidator(
        _class_weights, json_schema_input_type=dict[str, Rate] | Literal["balanced"] | None
    ),
]


class Backbone(Section):
    """The frozen network whose activations the heads are trained on.

    Attributes:
        network: an entry of `stages.shared.vgg.NETWORKS`.
        weights: `imagenet`, `random` (He-normal, from `seed`), or a path to the file that
            keras.applications publishes.
        width: share of the published number of channels; below 1 only with random weights.
    """

    network: Literal["vgg19"]
    weights: Text
    width: Annotated[float, Field(strict=False, gt=0, le=1)]

    @model_validator(mode="after")
    def _narrow_only_if_random(self) -> Self:
        if self.width < 1 and self.weights != "random":
            raise ValueError(
                f"width {self.width} goes with weights: random alone; "
                f"the weights {self.weights} need width: 1.0"
            )
        return self


class Features(Section):
    """How the stored activations are computed.

    Attributes:
        batch_size: pictures that go through the backbone at once.
    """

    batch_size: Count


class Train(Section):
    """How a variant is trained; it may set any of these for itself.

    Attributes:
        epochs: passes over the training split.
        batch_size: pictures in one step.
        optimizer: `adamw`, or `sgd` with momentum 0.9, the paper's.
        learning_rate: at its highest.
        schedule: of the learning rate over the training: `constant`, `cosine` to 0, or
            `polynomial` to 0.
        warmup: share of the steps in which the learning rate rises from 0.
        weight_decay: decoupled from the gradient.
        clip_norm: a larger gradient, all weights together, is scaled to this norm; null: never.
        dropout: share of the fc7 channels dropped ahead of their score layer.
        class_weights: `balanced` (the inverse of a class's share of the training pixels), weights
            by class name (1 for the others), or null for none.
        label_smoothing: share of each pixel's target that is spread over all classes.
        dice: weight of the Dice loss added to the cross-entropy.
        patience: epochs without a better validation mean IoU after which training ends; null: none.
    """

    epochs: Count
    batch_size: Count
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate
    schedule: Literal["constant", "cosine", "polynomial"] = "constant"
    warmup: Share = 0.0
    weight_decay: NotNegative
    clip_norm: Rate | None = None
    dropout: Dropout
    class_weights: ClassWeights = None
    label_smoothing: Dropout = 0.0
    dice: NotNegative = 0.0
    patience: Count | None = None


class Augmentation(Section):
    """How training pictures are changed at random, each epoch anew.

    Attributes:
        flip: left to right, every other one.
        scale: by up to this share larger or smaller, and shifted by up to a tenth of the picture.
        colour: brightness, contrast and saturation, each by up to this share.
    """

    flip: bool = True
    scale: Annotated[float, Field(strict=False, ge=0, lt=1)] = 0.2
    colour: Share = 0.2


# A variant may set any key of `train`; those that it does not set are not in `model_fields_set`.
_optional: dict[str, Any] = {
    name: (field.rebuild_annotation(), None) for name, field in Train.model_fields.items()
}
TrainOverrides = create_model("TrainOverrides", __base__=Section, **_optional)


class Variant(TrainOverrides):
    """One network of the family; any key of `train` may stand here too.

    Attributes:
        train: `head` (the score layers alone, on stored activations) or `network` (the backbone
            too, from the pictures).
        stride: of its finest score layer: 32, 16 or 8 pixels.
        parent: the variant whose trained weights it starts from, or `backbone`.
        augmentation: of the pictures, for `train: network`.
    """

    train: Literal["head", "network"] = "head"
    stride: Literal[8, 16, 32]
    parent: Name
    augmentation: Augmentation = Augmentation()

    def training(self, train: Train) -> Train:
        """The variant's own training settings, and `train`'s where it has none."""
        own = self.model_fields_set & set(Train.model_fields)
        return train.model_copy(update={key: getattr(self, key) for key in own})


class Evaluate(Section):
    """What is measured.

    Attributes:
        split: the one that is measured.
        batch_size: pictures that go through the network at once.
    """

    split: Split
    batch_size: Count


class Compare(Section):
    """How the variants are shown side by side.

    Attributes:
        pictures: how many to show, evenly spaced over the split.
        opacity: of their masks.
    """

    pictures: Count
    opacity: Share


class Export(Section):
    """What leaves the pipeline.

    Attributes:
        variants: the ones to export; each file holds the whole network, so it is as large as that.
        formats: entries of `stages.shared.exports.FORMATS`.
    """

    variants: list[Name]
    formats: Annotated[list[Literal["saved_model", "onnx", "litert"]], Field(min_length=1)]


class Ray(Section):
    """The cluster that `engine: ray` uses.

    Attributes:
        address: of a running cluster that this machine is a part of, `host:port` or `auto`; null
            starts one on this machine.
        cpus: cores that one shard is made on.
        storage: folder that all machines reach, as fsspec takes it (`s3://bucket/folder`,
            `file:///mnt/folder`), through which the shards pass; null: through Ray's memory.
    """

    address: Annotated[str, Field(pattern=r"^(auto|[^:/\s]+:\d+)$")] | None = None
    cpus: Count = 1
    storage: Annotated[str, Field(pattern=r"^[a-z0-9]+://.+[^/]$")] | None = None


class Params(Section):
    """The whole of params.yaml.

    Attributes:
        seed: of everything random: the demo's pictures, splits drawn as shares, weights, the order
            of batches, dropout, augmentation.
        precision: Keras dtype policy of the backbone; `auto`: bfloat16 or float16 where the
            hardware is fast at it, float32 else.
        engine: where `prepare` and `features` make their shards: `local`, this machine, or `ray`, a
            cluster. What they write is the same.
    """

    seed: Seed
    precision: Precision
    dataset: AnyDataset
    backbone: Backbone
    features: Features
    train: Train
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]
    evaluate: Evaluate
    compare: Compare
    export: Export
    engine: Literal["local", "ray"] = "local"
    ray: Ray = Ray()

    @model_validator(mode="after")
    def _parents_are_coarser(self) -> Self:
        for name in RESERVED_NAMES:
            if name in self.variants:
                raise ValueError(f"variants.{name}: the name is taken; give the variant another")
        for name, variant in self.variants.items():
            where = f"variants.{name}"
            if variant.train == "head" and "augmentation" in variant.model_fields_set:
                raise ValueError(
                    f"{where}.augmentation goes with train: network alone; "
                    "a head is trained on activations, not on pictures"
                )
            if variant.parent == "backbone":
                continue
            if variant.parent not in self.variants:
                known = ", ".join(["backbone", *(v for v in self.variants if v != name)])
                raise ValueError(
                    f"{where}.parent is {variant.parent!r}, which is no variant; "
                    f"take one of {known}"
                )
            ancestors = [name]
            while (parent := self.variants[ancestors[-1]].parent) in self.variants:
                if parent in ancestors:
                    cycle = " -> ".join([*ancestors, parent])
                    raise ValueError(
                        f"{where}.parent goes round in a circle ({cycle}); "
                        "let one of them start from backbone"
                    )
                ancestors.append(parent)
            if variant.train == "head" and self.variants[variant.parent].train == "network":
                raise ValueError(
                    f"{where}.parent is {variant.parent}, which has a backbone of its own; "
                    "data/features/ are the shared backbone's, so its children need train: network"
                )
            if self.variants[variant.parent].stride < variant.stride:
                raise ValueError(
                    f"{where}.parent is {variant.parent}, whose stride "
                    f"{self.variants[variant.parent].stride} is finer than the variant's own "
                    f"{variant.stride}; a parent must be as coarse as its child, or coarser"
                )
        return self

    @model_validator(mode="after")
    def _variants_to_export_are_there(self) -> Self:
        names = self.export.variants
        if unknown := [name for name in names if name not in self.variants]:
            raise ValueError(
                f"export.variants names {unknown[0]!r}, which is no variant; "
                f"the variants are {', '.join(self.variants)}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"export.variants names a variant twice: {', '.join(names)}")
        return self


def load(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The raw content of a parameter file, top-level keys to values.

    Raises:
        UserError: the file is missing, is not YAML, or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; copy one from profiles/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        bare_colour = BARE_COLOUR.search(problem)
        hint = "; a colour needs quotes, for # begins a comment" if bare_colour else ""
        raise UserError(f"{path} is not readable as YAML: {problem}{hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys; copy one from profiles/")
    return content


def read_all(path: Path = PARAMS_FILE) -> Params:
    """Read and check a whole parameter file.

    Raises:
        UserError: names each key or value at fault and what would be right.
    """
    return validate(TypeAdapter(Params), load(path), (), path, Params)


def read(key: str, path: Path = PARAMS_FILE) -> Any:
    """Read and check one section, or an entry of one, such as `variants.fcn8s`, and no other.

    Raises:
        UserError: as `read_all`.
    """
    section, *entry = key.split(".", 1)
    annotation = get_type_hints(Params, include_extras=True)[section]
    content = load(path)
    if section not in content:
        if not (field := Params.model_fields[section]).is_required():
            return field.get_default()
        raise UserError(f"{path}: {section} is missing")
    value = content[section]
    if entry:
        if not isinstance(value, dict) or entry[0] not in value:
            raise UserError(f"{path}: {key} is missing")
        value = value[entry[0]]
        if section == "variants":
            annotation = Variant
        else:
            annotation = get_type_hints(annotation, include_extras=True)[entry[0]]
    return validate(TypeAdapter(annotation), value, tuple(key.split(".")), path, Params)
