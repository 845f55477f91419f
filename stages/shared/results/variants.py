"""The variants of params.yaml, for what shows all of them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from stages.shared.settings.reading import PARAMS_FILE, read
from stages.shared.settings.section import Name


def _coarse_to_fine(variants: dict[str, Any]) -> dict[str, Any]:
    def place(name: str) -> tuple[int, bool, str]:
        settings = variants[name]
        return -settings.get("stride", 0), settings.get("train") == "network", name

    return {name: variants[name] for name in sorted(variants, key=place)}


Variants = Annotated[dict[Name, dict[str, Any]], AfterValidator(_coarse_to_fine)]


def variant_names(path: Path = PARAMS_FILE) -> list[str]:
    """The names of the variants, the coarsest stride first, heads before networks.

    Not in the order of the file: DVC compares mappings without it, so no output may follow it.

    Raises:
        UserError: `variants` is missing or no mapping of names to settings.
    """
    return list(read("variants", Variants, path))
