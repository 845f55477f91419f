"""Section `evaluate` of params.yaml."""

from typing import Annotated

from pydantic import Field

from stages.shared.settings.section import Count, Section, Split

LARGEST_SCALE = 8
Scale = Annotated[float, Field(strict=False, gt=0, le=LARGEST_SCALE)]


class Evaluate(Section):
    """How the variants are measured.

    Attributes:
        split: on which the variants are measured.
        batch_size: pictures that go through the network at once.
        flip: whether each picture is also seen flipped horizontally, and the mean of the
            probabilities counts; the backbone then runs once more.
        scales: the sizes at which each picture is seen, as factors of its size in the records; the
            mean of the probabilities counts.
    """

    split: Split
    batch_size: Count
    flip: bool = False
    scales: Annotated[list[Scale], Field(min_length=1)] = Field(default=[1.0])
