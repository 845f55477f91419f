"""Sections `train` and `variants` of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
)

from stages.shared.settings.mistakes import shown
from stages.shared.settings.section import Count, Name, Section, Share

# Not strict: PyYAML reads 1e-3, which DVC takes for a number, as a string.
Rate = Annotated[float, Field(strict=False, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=False, ge=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=32)]
Dropout = Annotated[float, Field(strict=False, ge=0, lt=1)]
Momentum = Annotated[float, Field(strict=False, gt=0, lt=1)]


def _square(share: float) -> float:
    """A share of the pixels that every n-th row and column makes."""
    if abs(share * round(share**-0.5) ** 2 - 1) > 0.02:
        raise ValueError(f"it is {share}; it should be 1, 0.25, 0.11, 0.0625 or another 1 / n^2")
    return share


Pixels = Annotated[float, Field(strict=False, gt=0, le=1), AfterValidator(_square)]


# The entries of `stages.shared.networks.decoders.DECODERS`.
DecoderName = Literal["fcn", "mlp", "fpn"]


def _class_weights(value: Any) -> dict[str, float] | str | None:
    """Check `class_weights`."""
    if value is None or value == "balanced":
        return value
    try:
        weights = TypeAdapter(dict[str, Rate]).validate_python(value)
    except ValidationError:
        raise ValueError(
            f"it is {shown(value)}; it should be balanced, null, or a mapping of class names to "
            "weights above 0"
        ) from None
    # DVC compares mappings without their order, and settings.json has them.
    return dict(sorted(weights.items()))


ClassWeights = Annotated[
    dict[str, float] | str | None,
    PlainValidator(
        _class_weights, json_schema_input_type=dict[str, Rate] | Literal["balanced"] | None
    ),
]


class Train(Section):
    """How the variants are trained; a variant can override each key.

    Attributes:
        epochs: passes over the training split.
        batch_size: pictures in one step.
        optimizer: `adamw`, or `sgd` with momentum 0.9, the paper's.
        learning_rate: the highest of the schedule.
        schedule: of the learning rate over the training: `constant`, `cosine` to 0, or
            `polynomial` to 0.
        warmup: share of the steps in which the learning rate rises from 0.
        weight_decay: decoupled from the gradient; biases do not decay.
        clip_norm: maximum global norm of the gradient; null: no clipping.
        ema_momentum: of an exponential moving average of the weights over the steps, which takes
            their place when they are validated and kept; null: none.
        dropout: share of the coarsest tap's channels dropped ahead of its projection.
        class_weights: `balanced` (the inverse of a class's share of the training pixels), weights
            by class name (1 for the others), or null for none.
        label_smoothing: share of each pixel's target that is spread over all classes.
        dice: weight of the Dice loss, over the classes of the batch, added to the cross-entropy.
        jaccard: weight of the Jaccard loss, likewise.
        pixels: share of the training pixels that a step's loss counts, 1 / n^2: 0.25 takes every
            second row and column, from an offset that is drawn for each step.
        patience: epochs without a better validation mean IoU before early stopping; null: never.
    """

    epochs: Count
    batch_size: Count
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate
    schedule: Literal["constant", "cosine", "polynomial"] = "constant"
    warmup: Share = 0.0
    weight_decay: NotNegative
    clip_norm: Rate | None = None
    ema_momentum: Momentum | None = None
    dropout: Dropout
    class_weights: ClassWeights = None
    label_smoothing: Dropout = 0.0
    dice: NotNegative = 0.0
    jaccard: NotNegative = 0.0
    pixels: Pixels = 0.25
    patience: Count | None = None


# A list in YAML.
Crop = Annotated[tuple[Side, Side], Field(strict=False)]


class Augmentation(Section):
    """Augmentation of the training pictures, different in each epoch.

    Attributes:
        flip: horizontally, with probability 0.5.
        vertical_flip: likewise, upside down.
        rotation: by up to so many degrees, either way.
        scale: zoom by up to this fraction, in or out, and shift by up to a tenth of the picture.
        crop: [height, width] in pixels of the part that a step sees of each picture, anywhere in
            it; null: all of it. With `scale`, crops at random scales.
        colour: change brightness, contrast and saturation, each by up to this fraction.
    """

    flip: bool = True
    vertical_flip: bool = False
    rotation: Annotated[float, Field(strict=False, ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(strict=False, ge=0, lt=1)] = 0.2
    crop: Crop | None = None
    colour: Share = 0.2


# A variant may set any key of `train`; those that it does not set are not in `model_fields_set`.
_optional: dict[str, Any] = {
    name: (field.rebuild_annotation(), None) for name, field in Train.model_fields.items()
}
TrainOverrides = create_model("TrainOverrides", __base__=Section, **_optional)


class Variant(TrainOverrides):
    """A network to train and measure; it can override any key of `train`.

    Attributes:
        train: `head` (alone, on stored activations) or `network` (the backbone
            too, from the pictures).
        backbone: the entry of `backbones` that it stands on.
        decoder: `fcn` (score layers, added from coarse to fine), `mlp` (each tap to `width`
            channels, summed, then a nonlinearity and a classifier) or `fpn` (a pyramid of maps).
        width: channels of an mlp's and an fpn's maps.
        context: blocks of an mlp or fpn that look around each place, by a 5x5 convolution.
        stride: of the finest tap that it reads: 32, 16, 8 or 4 pixels, one of the backbone's
            `strides`.
        parent: the variant whose trained weights it starts from, or its backbone.
        backbone_rate: learning rate of the backbone, as a share of the head's, for `train:
            network`; its weights decay at the head's.
        augmentation: of the pictures, likewise.
    """

    train: Literal["head", "network"]
    backbone: Name
    decoder: DecoderName = "fcn"
    width: Count = 128
    context: Annotated[int, Field(ge=0)] = 0
    stride: Literal[4, 8, 16, 32]
    parent: Name
    backbone_rate: Annotated[float, Field(strict=False, gt=0, le=1)] = 1.0
    augmentation: Augmentation = Augmentation()

    def training(self, train: Train) -> Train:
        """The variant's own training settings, and `train`'s where it has none."""
        own = self.model_fields_set & set(Train.model_fields)
        return train.model_copy(update={key: getattr(self, key) for key in own})
