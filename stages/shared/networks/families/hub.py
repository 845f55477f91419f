"""The networks of KerasHub that have a feature pyramid (extras/hub.txt)."""

import importlib
import json
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import keras
from keras import KerasTensor, layers, ops
from pydantic import BaseModel, ConfigDict

from stages.shared.networks.families.applications import gelu, unnumbered
from stages.shared.networks.families.preprocessing import Colours, Shape
from stages.shared.networks.families.upsampling import Upsample
from stages.shared.runtime.errors import UserError

STRIDES = (4, 8, 16, 32)
# Of a plain vision transformer's tokens, in pixels; pictures are resized so that its patches are.
TOKEN_STRIDE = 16
# The weights of a vision transformer's places, for the size of its squares.
PLACES = "interpolated_position_embeddings"
# The classes that are known to be built again from their configuration.
CLASSES = ("CSPNetBackbone", "DenseNetBackbone", "DINOV2Backbone", "MiTBackbone", "ResNetBackbone")
# Of a picture on which the strides of a network's levels are counted.
SMALL = 64


class Preset(BaseModel):
    """What a preset says of its network, which is then built without it.

    Attributes:
        handle: a name that KerasHub knows, one such as `hf://USER/NAME`, or a folder.
        name: of the network's class in KerasHub.
        arguments: of the class, as JSON.
        colours: that the network was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str
    name: str
    arguments: str
    colours: Colours

    @property
    def options(self) -> dict[str, Any]:
        """The arguments."""
        return json.loads(self.arguments)


def keras_hub() -> ModuleType:
    """KerasHub, whose import takes seconds, and which nothing else needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("keras_hub")
    except ImportError:
        raise UserError(
            "a network of KerasHub needs the package keras-hub; install it "
            "(pip install -c constraints.txt -r extras/hub.txt)"
        ) from None


def taps(pictures: KerasTensor, preset: Preset) -> dict[int, KerasTensor]:
    """The layers of a network of KerasHub, with random weights.

    A network that takes squares of one size sees the picture in windows of that size, side by side.

    Args:
        pictures: preprocessed, (batch, height, width, 3), each side a multiple of 32.
        preset: of the network.

    Returns:
        The taps, by stride: (batch, height / stride, width / stride, channels). Each is the last
        level of its stride. A plain vision transformer's levels have one stride: the taps are its
        tokens after each quarter of its layers, resampled to the four strides ("Vision Transformers
        for Dense Prediction", Ranftl, Bochkovskiy, Koltun, section 3.1).
    """
    network = Pyramid(preset, name="pyramid")
    side = network.side
    if side is None:
        small = network.compute_output_spec(KerasTensor((1, SMALL, SMALL, 3))).values()
        levels = network(pictures).values()
        return _by_stride(
            (SMALL // spec.shape[1], x) for spec, x in zip(small, levels, strict=True)
        )
    patch = preset.options.get("patch_size", TOKEN_STRIDE)
    window = side * TOKEN_STRIDE // patch
    squares = Cut(window, name="windows")(pictures)
    if side != window:
        squares = layers.Resizing(side, side, name="patches")(squares)
    levels = network(squares)
    if "stem" in levels:
        return _of_tokens(levels, window, pictures)
    strided = _by_stride((window // x.shape[1], x) for x in levels.values())
    return {
        stride: Join(window, stride, name=f"joined{stride}")([x, pictures])
        for stride, x in strided.items()
    }


def pyramid(backbone: keras.Model) -> keras.Model:
    """From pictures to the levels of a FeaturePyramidBackbone, by name.

    Its layers change: their names no longer follow what else the process has built.
    """
    for number, layer in enumerate(backbone._flatten_layers(include_self=False)):
        if automatic := unnumbered(layer):
            layer.name = f"{automatic}_{number}"
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = gelu
        if hasattr(layer, PLACES):
            # KerasHub may not save them after they were trained: it compares their sum.
            getattr(layer, PLACES).trainable = False
        if hasattr(layer, "mask_token"):
            # Of its own training; nothing reads it here.
            layer.mask_token.trainable = False
    return keras.Model(backbone.inputs[0], backbone.pyramid_outputs, name="pyramid")


def reductions(layer: keras.Layer) -> dict[int, int]:
    """Of the kernels in a layer of MiT, by their ids, by how many times fewer places they are used
    at than the layer has: keys and values are of a reduced picture ("SegFormer", section 3.1)."""
    attention: Any = getattr(layer, "attn", None)
    ratio = getattr(attention, "sr_ratio", 1)
    if ratio == 1:
        return {}
    parts = (attention.sr, attention.k, attention.v)
    return {id(weight): ratio**2 for part in parts for weight in part.weights}


def _by_stride(levels: Iterable[tuple[int, KerasTensor]]) -> dict[int, KerasTensor]:
    """The last level of each stride that a tap may have."""
    return {stride: x for stride, x in levels if stride in STRIDES}


def _of_tokens(
    levels: dict[str, KerasTensor], window: int, pictures: KerasTensor
) -> dict[int, KerasTensor]:
    """Taps from tokens, (batch, tokens, channels), of the `stem` and of `stage1`, `stage2`, ..."""
    side, found = window // TOKEN_STRIDE, {}
    for quarter, stride in enumerate(STRIDES, start=1):
        tokens = levels[f"stage{quarter * (len(levels) - 1) // len(STRIDES)}"]
        others = tokens.shape[1] - side**2
        x = layers.Cropping1D((others, 0), name=f"patches{stride}")(tokens)
        x = layers.Reshape((side, side, x.shape[-1]), name=f"grid{stride}")(x)
        x = Join(window, TOKEN_STRIDE, name=f"joined{stride}")([x, pictures])
        if stride < TOKEN_STRIDE:
            x = Upsample(TOKEN_STRIDE // stride, name=f"up{stride}")(x)
        elif stride > TOKEN_STRIDE:
            x = layers.AveragePooling2D(stride // TOKEN_STRIDE, name=f"mean{stride}")(x)
        found[stride] = x
    return found


class Pyramid(layers.Layer):
    """A network of KerasHub: from preprocessed pictures to its levels, by name.

    Args:
        preset: of the network.

    Attributes:
        network: what the layer is made of.
        side: of the squares that it takes, in pixels; None if it takes any picture.
    """

    def __init__(self, preset: Preset, **options: Any) -> None:
        super().__init__(**options)
        self.preset = preset
        backbone = getattr(keras_hub().models, preset.name)
        self.network = pyramid(backbone(**preset.options))
        self.side = self.network.inputs[0].shape[1]
        self.built = True

    def call(self, pictures: KerasTensor, training: bool | None = None) -> dict[str, KerasTensor]:
        return self.network(pictures, training=training)

    def compute_output_spec(self, pictures: KerasTensor, **_: Any) -> dict[str, KerasTensor]:
        return self.network.compute_output_spec(pictures)


@keras.saving.register_keras_serializable("stages")
class Cut(layers.Layer):
    """A picture's windows, row by row, the last of each padded with zeros, the mean colour.

    Shapes: (batch, height, width, channels) to (batch * rows * columns, side, side, channels).

    Args:
        side: of a window, in pixels.
    """

    def __init__(self, side: int, **options: Any) -> None:
        super().__init__(**options)
        self.side = side

    def call(self, pictures: KerasTensor) -> KerasTensor:
        side, channels = self.side, pictures.shape[-1]
        batch, height, width, _ = ops.shape(pictures)
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        spare = ((0, 0), (0, rows * side - height), (0, columns * side - width), (0, 0))
        x = ops.reshape(ops.pad(pictures, spare), (batch, rows, side, columns, side, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, side, side, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        if batch is None or height is None or width is None:
            return (None, self.side, self.side, channels)
        windows = batch * -(-height // self.side) * -(-width // self.side)
        return (windows, self.side, self.side, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable("stages")
class Join(layers.Layer):
    """What a network made of `Cut`'s windows, as a whole.

    Shapes: (batch * rows * columns, side / stride, side / stride, channels) and the pictures,
    (batch, height, width, 3), to (batch, height / stride, width / stride, channels).

    Args:
        side: of a window, in pixels.
        stride: of the activations, in pixels.
    """

    def __init__(self, side: int, stride: int, **options: Any) -> None:
        super().__init__(**options)
        self.side, self.stride = side, stride

    def call(self, inputs: list[KerasTensor]) -> KerasTensor:
        windows, pictures = inputs
        small, channels = self.side // self.stride, windows.shape[-1]
        batch, height, width, _ = ops.shape(pictures)
        rows, columns = ((n + self.side - 1) // self.side for n in (height, width))
        x = ops.reshape(windows, (batch, rows, columns, small, small, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (batch, rows * small, columns * small, channels))
        return x[:, : height // self.stride, : width // self.stride]

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        (*_, channels), (batch, *size, _) = input_shape
        return (batch, *(n and n // self.stride for n in size), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side, "stride": self.stride}
