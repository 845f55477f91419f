"""The variants of params.yaml, for what shows all of them."""

from pathlib import Path

from pydantic import BaseModel

from stages.shared.settings.reading import PARAMS_FILE, read
from stages.shared.settings.section import Name


class Kind(BaseModel):
    """What decides a variant's place among the others: its `stride`, and what it trains."""

    stride: int
    train: str = "head"


def variant_names(path: Path = PARAMS_FILE) -> list[str]:
    """The names of the variants, the coarsest stride first, heads before networks.

    Not in the order of the file: DVC compares mappings without it, so no output may follow it.

    Raises:
        UserError: `variants` is missing, or a variant has no stride.
    """
    found: dict[str, Kind] = read("variants", dict[Name, Kind], path)
    return sorted(found, key=lambda n: (-found[n].stride, found[n].train == "network", n))
