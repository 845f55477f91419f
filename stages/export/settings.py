"""Section `export` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.shared.settings.section import Name, Section

Formats = Annotated[list[Literal["saved_model", "onnx", "litert"]], Field(min_length=1)]


class Export(Section):
    """What leaves the pipeline.

    Attributes:
        variants: the ones to export; each file holds the whole network, so it is as large as that.
        formats: entries of `stages.export.formats.FORMATS`.
    """

    variants: list[Name]
    formats: Formats
