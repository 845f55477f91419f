"""Section `export` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.shared.settings.section import Name, Section

Formats = Annotated[list[Literal["saved_model", "onnx", "litert"]], Field(min_length=1)]


class Export(Section):
    """Which networks are exported, and how.

    Attributes:
        variants: to export; each exported file contains the whole network.
        formats: entries of `stages.export.formats.FORMATS`.
    """

    variants: list[Name]
    formats: Formats
