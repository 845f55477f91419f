"""Section `backbones` of params.yaml."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import Section, Text

# The entries of `stages.shared.networks.families.table.NETWORKS`.
NetworkName = Literal[
    "convnext_base",
    "convnext_large",
    "convnext_small",
    "convnext_tiny",
    "convnext_xlarge",
    "densenet121",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_v2_b0",
    "efficientnet_v2_b1",
    "efficientnet_v2_b2",
    "efficientnet_v2_b3",
    "efficientnet_v2_l",
    "efficientnet_v2_m",
    "efficientnet_v2_s",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet101",
    "resnet152",
    "resnet50",
    "vgg16",
    "vgg19",
]
# Before the name, the handle or the folder of a preset of KerasHub.
HUB = "hub:"
# In `weights`: those that were published, those of the preset, and those that are drawn.
IMAGENET, PRESET, RANDOM = "imagenet", "preset", "random"
PresetName = Annotated[str, Field(pattern=f"^{HUB}.+")]
# Those that can be built with a share of their channels.
NARROWING = ("vgg16", "vgg19")


def _ascending(strides: list[int]) -> list[int]:
    if len(set(strides)) < len(strides):
        raise ValueError(f"it names a stride twice: {strides}")
    return sorted(strides)


def _known(network: Any, validate: ValidatorFunctionWrapHandler) -> str:
    """In one sentence; of two types, pydantic would make one for each."""
    try:
        return validate(network)
    except ValidationError:
        *others, last = names = get_args(NetworkName)
        if near := get_close_matches(str(network), names, n=1):
            raise PydanticCustomError(
                "network", f"did you mean {near[0]}? docs/network.md lists all"
            ) from None
        raise PydanticCustomError(
            "network",
            "Input should be {others}, '{last}', or hub: and a preset of KerasHub",
            {"others": ", ".join(map(repr, others)), "last": last},
        ) from None


Strides = Annotated[list[Literal[4, 8, 16, 32]], Field(min_length=1), AfterValidator(_ascending)]


class Backbone(Section):
    """A network whose activations heads are trained on.

    Attributes:
        network: keras.applications has it, but for EfficientNet-Lite, which has neither
            squeeze-and-excite nor swish; or `hub:` and a preset of KerasHub: its name, its handle,
            or its folder.
        weights: `imagenet`, `random` (from `seed`), or a path to the published file; of a preset,
            `preset` or `random`.
        width: share of the published number of channels, of a VGG with random weights.
        strides: of its taps, in pixels; a variant reads those from its own stride on. Those that
            variants with `train: head` read are stored.
        window: side of the squares in which a preset's network sees a picture if it takes one
            size only, in pixels; a multiple of 32.
    """

    network: Annotated[NetworkName | PresetName, WrapValidator(_known)]
    weights: Text
    width: Annotated[float, Field(strict=False, gt=0, le=1)] = 1.0
    strides: Strides = Field(default=[8, 16, 32])
    window: Annotated[int, Field(ge=32, multiple_of=32)] = 224

    @model_validator(mode="after")
    def _preset_with_preset(self) -> Self:
        if self.network.startswith(HUB) and self.weights not in (PRESET, RANDOM):
            raise ValueError(f"{self.network} needs weights: preset, or random")
        if self.weights == PRESET and not self.network.startswith(HUB):
            raise ValueError(f"weights: preset needs a preset, network: {HUB}NAME")
        if "window" in self.model_fields_set and not self.network.startswith(HUB):
            raise ValueError(
                f"window needs a preset, network: {HUB}NAME; {self.network} sees a picture whole"
            )
        return self

    @model_validator(mode="after")
    def _narrow_only_if_random(self) -> Self:
        if self.width < 1 and self.network not in NARROWING:
            raise ValueError(f"width {self.width} needs a VGG; {self.network} needs width: 1.0")
        if self.width < 1 and self.weights != RANDOM:
            raise ValueError(
                f"width {self.width} needs weights: random; "
                f"the weights {self.weights} need width: 1.0"
            )
        return self


def require_weights(weights: str, key: str) -> None:
    """Fail on weights that are neither a name nor a file.

    Args:
        weights: of a backbone.
        key: of `weights` in params.yaml, for messages.

    Raises:
        UserError: they are neither.
    """
    if weights not in (IMAGENET, PRESET, RANDOM) and not Path(weights).is_file():
        raise UserError(
            f"params.yaml: {key} is {weights!r}, which is not a file; use imagenet, random, or "
            "the path of a weights file"
        )
