"""Section `backbone` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.shared.settings.section import Section, Text


class Backbone(Section):
    """The frozen network whose activations the heads are trained on.

    Attributes:
        network: an entry of `stages.shared.networks.vgg.NETWORKS`.
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
                f"width {self.width} needs weights: random; "
                f"the weights {self.weights} need width: 1.0"
            )
        return self
