"""The variants of params.yaml, for what shows all of them."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from stages.shared.formats.predictions import Cost
from stages.shared.runtime import seconds
from stages.shared.runtime.console import figures, or_dash
from stages.shared.settings.reading import PARAMS_FILE, read
from stages.shared.settings.section import Name


class Kind(BaseModel):
    """What decides a variant's place among the others: its `stride`, and what it trains.

    Attributes:
        stride: of its finest tap.
        train: what it trains.
        backbone: that it stands on.
        parent: the variant that it starts from, or its backbone.
    """

    stride: int
    train: str = "head"
    backbone: str = ""
    parent: str = ""


def variant_names(path: Path = PARAMS_FILE) -> list[str]:
    """The names of the variants, the coarsest stride first, heads before networks.

    Not in the order of the file: DVC compares mappings without it, so no output may follow it.

    Raises:
        UserError: `variants` is missing or empty, or a variant has no stride.
    """
    found = _kinds(path)
    return sorted(found, key=lambda n: (-found[n].stride, found[n].train == "network", n))


def backbone_of(variant: str, path: Path = PARAMS_FILE) -> str:
    """The entry of `backbones` that a variant stands on."""
    return _kinds(path)[variant].backbone


def cost_texts(cost: Cost) -> tuple[str, str, str]:
    """Millions of parameters, GFLOP, and MB of stored activations, `-` for none, as tables have
    them."""
    stored = or_dash(cost.feature_bytes, megabytes)
    return f"{cost.parameters / 1e6:.2f}", figures(cost.gflop), stored


def megabytes(size: float) -> str:
    """Bytes of a picture's activations."""
    return f"{size / 1e6:.3f}"


def seconds_of(variant: str, path: Path = PARAMS_FILE) -> tuple[float | None, float | None]:
    """How long a variant took, where known: its features, and its training with its parents'."""
    kinds, trained = _kinds(path), list[float | None]()
    features = seconds.noted(f"features@{kinds[variant].backbone}")
    while kind := kinds.pop(variant, None):
        trained.append(seconds.noted(f"train@{variant}"))
        variant = kind.parent
    return features, None if None in trained else sum(filter(None, trained))


def _kinds(path: Path) -> dict[str, Kind]:
    return read("variants", Annotated[dict[Name, Kind], Field(min_length=1)], path)
