"""The schema of the whole of params.yaml, put together from the stages' sections."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from stages.backbone.settings import Backbone
from stages.compare.settings import Compare
from stages.evaluate.settings import Evaluate
from stages.export.settings import Export
from stages.features.settings import FeaturesSettings
from stages.prepare.settings import AnySource
from stages.shared.engines.settings import DEFAULT_ENGINE, EngineName, Ray
from stages.shared.settings.mistakes import validate
from stages.shared.settings.reading import PARAMS_FILE, load
from stages.shared.settings.section import (
    DEFAULT_MEMORY,
    Name,
    Precision,
    Section,
    Seed,
    Share,
)
from stages.train.settings import Train, Variant

# Folders of models/ and reports/ that are no backbone's and no variant's, and what stands beside
# the variants' masks.
RESERVED_NAMES = (
    "comparison",
    "dataset",
    "export",
    "gallery",
    "picture",
    "seconds",
    "truth",
    "vega",
)

# Keys of a variant that decide the layers of its head, beside its taps.
HEAD_KEYS = ("decoder", "width", "context")


class Params(Section):
    """The whole of params.yaml.

    Attributes:
        seed: of all random numbers: pictures of the demo, splits by fraction, initial weights,
            order of the batches, dropout, augmentation.
        precision: Keras dtype policy of the backbones; `auto`: bfloat16 or float16 where the
            hardware is fast at it, float32 else. On a CPU, `auto` trains EfficientNets and
            MobileNets in float32.
        engine: where `prepare` and `features` make their shards: `local`, this machine, or `ray`, a
            cluster. The outputs are the same.
        memory: share of the free memory that a training may fill with its pictures or activations,
            of the GPU's, or if they take more, of the machine's. What does not fit there either is
            read from the disk in each epoch. On a CPU the outputs are the same.
    """

    seed: Seed
    precision: Precision
    dataset: AnySource
    backbones: Annotated[dict[Name, Backbone], Field(min_length=1)]
    features: FeaturesSettings
    train: Train
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]
    evaluate: Evaluate
    compare: Compare
    export: Export
    engine: EngineName = DEFAULT_ENGINE
    ray: Ray = Ray()
    memory: Share = DEFAULT_MEMORY

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for section, names in (("backbones", self.backbones), ("variants", self.variants)):
            for name in RESERVED_NAMES:
                if name in names:
                    raise ValueError(f"{section}.{name}: the name is taken; use another")
        if both := sorted(set(self.backbones) & set(self.variants)):
            raise ValueError(
                f"variants.{both[0]} has the name of a backbone, and both would be models/"
                f"{both[0]}/; rename one of them"
            )
        return self

    @model_validator(mode="after")
    def _variants_stand_on_backbones(self) -> Self:
        for name, variant in self.variants.items():
            where = f"variants.{name}"
            if variant.backbone not in self.backbones:
                raise ValueError(
                    f"{where}.backbone is {variant.backbone!r}, which is not a backbone; use one "
                    f"of {', '.join(self.backbones)}"
                )
            maps = [key for key in HEAD_KEYS[1:] if key in variant.model_fields_set]
            if maps and variant.decoder == "fcn":
                raise ValueError(
                    f"{where}.{maps[0]} needs decoder: mlp or fpn; an fcn has score layers alone"
                )
            strides = self.backbones[variant.backbone].strides
            if variant.stride not in strides:
                raise ValueError(
                    f"{where}.stride is {variant.stride}, but backbones.{variant.backbone}.strides "
                    f"is {strides}; use one of these, or add it there"
                )
        return self

    @model_validator(mode="after")
    def _parents_are_coarser(self) -> Self:
        for name, variant in self.variants.items():
            where = f"variants.{name}"
            if variant.train == "head" and "augmentation" in variant.model_fields_set:
                raise ValueError(
                    f"{where}.augmentation needs train: network; "
                    "a head is trained on activations, not on pictures"
                )
            if variant.parent == variant.backbone:
                continue
            siblings = [n for n, v in self.variants.items() if v.backbone == variant.backbone]
            if variant.parent not in siblings:
                known = ", ".join([variant.backbone, *(n for n in siblings if n != name)])
                raise ValueError(
                    f"{where}.parent is {variant.parent!r}, which is neither the variant's "
                    f"backbone nor a variant on it; use one of {known}"
                )
            ancestors = [name]
            while (above := self.variants[ancestors[-1]].parent) in self.variants:
                if above in ancestors:
                    cycle = " -> ".join([*ancestors, above])
                    raise ValueError(
                        f"{where}.parent makes a cycle ({cycle}); "
                        f"set the parent of one of them to {variant.backbone}"
                    )
                ancestors.append(above)
            parent = self.variants[variant.parent]
            if variant.train == "head" and parent.train == "network":
                raise ValueError(
                    f"{where}.parent is {variant.parent}, which has a backbone of its own; "
                    f"data/features/{variant.backbone}/ comes from models/{variant.backbone}/, so "
                    "a child needs train: network"
                )
            for key in HEAD_KEYS:
                own, parents = getattr(variant, key), getattr(parent, key)
                if own != parents:
                    raise ValueError(
                        f"{where}.{key} is {own!r}, and that of its parent {variant.parent} is "
                        f"{parents!r}; a variant continues the head of its parent, so use the "
                        f"same, or the parent {variant.backbone}"
                    )
            if parent.stride < variant.stride:
                raise ValueError(
                    f"{where}.parent is {variant.parent}, whose stride {parent.stride} is finer "
                    f"than the variant's own {variant.stride}; a parent must be as coarse as its "
                    "child, or coarser"
                )
        return self

    @model_validator(mode="after")
    def _steps_see_pixels(self) -> Self:
        size = self.dataset.image_size
        for name, variant in self.variants.items():
            crop = variant.augmentation.crop or size
            if crop[0] > size[0] or crop[1] > size[1]:
                raise ValueError(
                    f"variants.{name}.augmentation.crop is {list(crop)}, and the pictures are "
                    f"{list(size)}; use a smaller crop, or a larger dataset.image_size"
                )
            pixels = variant.training(self.train).pixels
            if pixels**-0.5 > min(crop):
                raise ValueError(
                    f"the pixels of variants.{name} is {pixels:g}, which leaves none of pictures "
                    f"of {list(crop)}; use a larger share"
                )
        return self

    @model_validator(mode="after")
    def _variants_to_export_are_there(self) -> Self:
        names = self.export.variants
        if unknown := [name for name in names if name not in self.variants]:
            raise ValueError(
                f"export.variants names {unknown[0]!r}, which is not a variant; "
                f"the variants are {', '.join(self.variants)}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"export.variants names a variant twice: {', '.join(names)}")
        return self

    def heads_on(self, backbone: str) -> list[int]:
        """Strides of the heads that are trained on a backbone's stored activations."""
        variants = self.variants.values()
        return [v.stride for v in variants if v.backbone == backbone and v.train == "head"]


def read_all(path: Path = PARAMS_FILE) -> Params:
    """Read and check a whole parameter file.

    Raises:
        UserError: names each wrong key or value and what would be right.
    """
    return validate(Params, load(path), (), path)
