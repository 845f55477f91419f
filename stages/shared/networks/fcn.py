"""The FCN heads: score layers on a backbone's taps, fused from coarse to fine.

"Fully Convolutional Networks for Semantic Segmentation" (Long, Shelhamer, Darrell, section 4.2): a
linear 1x1 convolution scores each tap; a coarse score is upsampled bilinearly by 2 and added to the
next finer one; the last sum is upsampled bilinearly to the picture.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from stages.shared.manifest import Manifest
from stages.shared.networks import backbones
from stages.shared.networks.backbones import BACKBONE_FOLDER, stride_of
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE, Shape
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError

WEIGHTS_FILE, CONFIG_FILE = "head.weights.h5", "head.json"


class Score(NamedTuple):
    """Weights of a score layer: kernel (channels, classes) and bias (classes,), float32."""

    kernel: np.ndarray
    bias: np.ndarray


class HeadConfig(Manifest):
    """Configuration of a stored head.

    Attributes:
        stride: of the finest tap, in pixels.
        channels: of each tap that it scores, the coarsest first.
        classes: their names, in the order of the scores.
        image_size: (height, width) of the pictures that it was trained on.
        fit: how they were brought to this size, see `dataset.fit` in params.yaml.
        backbone: the entry of `backbones` in params.yaml that it stands on.
        frozen: whether the backbone still has the weights that its features were computed with.
        backbone_weights: digest of those that it has.
        weights: digest of its own; empty before they are written.
    """

    schema_version: Literal[4] = 4
    stride: int
    channels: dict[str, int]
    classes: list[str]
    image_size: tuple[int, int]
    fit: str
    backbone: str
    frozen: bool = True
    backbone_weights: str = ""
    weights: str = ""


@keras.saving.register_keras_serializable("stages")
class Upsample(layers.Layer):
    """Bilinear upsampling by a whole factor, as `tf.image.resize` does it.

    Bilinear interpolation is a matrix on each axis, so it is two matrix products: exact at the
    borders, traced for any height and width, and the same on every backend.

    Shapes: (batch, height, width, channels) to (batch, factor * height, factor * width, channels).
    """

    def __init__(self, factor: int, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, scores: KerasTensor) -> KerasTensor:
        height, width = ops.shape(scores)[1:3]
        rows = interpolation(height, self.factor, self.compute_dtype)
        columns = interpolation(width, self.factor, self.compute_dtype)
        planes = ops.transpose(scores, (0, 3, 1, 2))
        # Of as many axes as the planes: LiteRT has no other product of unknown sizes.
        rows, columns = rows[None, None], ops.transpose(columns)[None, None]
        planes = ops.matmul(ops.matmul(rows, planes), columns)
        return ops.transpose(planes, (0, 2, 3, 1))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        return (batch, height and height * self.factor, width and width * self.factor, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def interpolation(size: int, factor: int, dtype: str) -> KerasTensor:
    """The matrix (size * factor, size) that upsamples an axis, clamped at the outermost centres."""
    target = ops.cast(ops.arange(size * factor), dtype)
    source = ops.clip((target + 0.5) / factor - 0.5, 0, ops.cast(size - 1, dtype))
    distance = ops.abs(source[:, None] - ops.cast(ops.arange(size), dtype)[None, :])
    return ops.relu(1 - distance)


@keras.saving.register_keras_serializable("stages")
class CropLike(layers.Layer):
    """Cut the bottom and right off, to the height and width of the pictures."""

    def call(self, logits: KerasTensor, pictures: KerasTensor) -> KerasTensor:
        height, width = ops.shape(pictures)[1:3]
        return logits[:, :height, :width]

    def compute_output_shape(self, logits_shape: Shape, pictures_shape: Shape) -> Shape:
        return (logits_shape[0], *pictures_shape[1:3], logits_shape[3])


def score_layer(tap: str, classes: int) -> layers.Layer:
    """The plain score layer of a tap: a 1x1 convolution, zero at first."""
    return layers.Conv2D(classes, 1, kernel_initializer="zeros", name=f"score_{tap}")


def head(
    config: HeadConfig,
    image_size: tuple[int, int] | None = None,
    score_layer: Callable[[str, int], layers.Layer] = score_layer,
) -> keras.Model:
    """Build a head; all its scores start at zero.

    Args:
        config: its stride, taps and classes.
        image_size: (height, width) that the logits are cut to; None leaves them at 32
            times the coarsest tap's.
        score_layer: makes the layer that scores a tap, `score_{tap}`, for a number of classes.

    Returns:
        A model of a dict of activations, (batch, height / tap's stride, width / tap's stride,
        channels), to logits, float32 (batch, height, width, classes).
    """
    classes = len(config.classes)
    inputs: dict[str, KerasTensor] = {}
    fused, coarser = None, COARSEST_STRIDE
    for tap, channels in config.channels.items():
        x = inputs[tap] = keras.Input((None, None, channels), name=tap)
        score = score_layer(tap, classes)(x)
        if fused is None:
            fused = score
        else:
            factor = coarser // stride_of(tap)
            upsampled = Upsample(factor, name=f"upsample_to_{tap}")(fused)
            fused = layers.Add(name=f"fuse_{tap}")([upsampled, score])
        coarser = stride_of(tap)
    logits = Upsample(config.stride, name="upsample_to_picture")(fused)
    if image_size:
        # The backbone pads at the bottom and right, see `Preprocess`.
        padding = tuple((0, -size % COARSEST_STRIDE) for size in image_size)
        logits = layers.Cropping2D(padding, name="crop")(logits)
    return keras.Model(inputs, logits, name=f"head_{config.stride}s")


def network(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """The whole FCN.

    Args:
        backbone: from `backbones`.
        head: from `head`, its logits not cut.

    Returns:
        A model of pictures, (batch, height, width, 3) RGB from 0 to 255, any height and width, to
        logits, float32 (batch, height, width, classes).

    Example:
        >>> fcn8s = network(backbones.load(Path("models/vgg19")), load_head(Path("models/fcn8s")))
        >>> fcn8s(np.zeros((1, 100, 150, 3), "uint8")).shape
        (1, 100, 150, 3)
    """
    pictures = keras.Input((None, None, 3), name="pictures")
    taps = backbone(pictures)
    logits = head({tap: taps[tap] for tap in head.input})
    return keras.Model(pictures, CropLike(name="crop")(logits, pictures))


def scores(model: keras.Model) -> dict[str, Score]:
    """The weights of a head's score layers, by tap."""
    return {
        tap: Score(kernel.reshape(kernel.shape[-2:]), bias)
        for tap in model.input
        for kernel, bias in [model.get_layer(f"score_{tap}").get_weights()]
    }


def set_scores(model: keras.Model, weights: Mapping[str, Score]) -> None:
    """Set the weights of score layers, by tap; the others keep theirs."""
    for tap, score in weights.items():
        layer = model.get_layer(f"score_{tap}")
        layer.set_weights([score.kernel.reshape(layer.kernel.shape), score.bias])


def save_head(model: keras.Model, config: HeadConfig, folder: Path) -> None:
    """Write a plain head's weights, and what it takes to build it again, into a folder."""
    model.save_weights(folder / WEIGHTS_FILE)
    digest = digests.digest(folder / WEIGHTS_FILE)
    config.model_copy(update={"weights": digest}).write(folder / CONFIG_FILE)


def load_head(folder: Path, image_size: tuple[int, int] | None = None) -> keras.Model:
    """Build a stored head, its logits cut to `image_size` (see `head`).

    Raises:
        UserError: a file is damaged, or of another version of the pipeline.
    """
    config = load_head_config(folder)
    digests.require_whole({folder / WEIGHTS_FILE: config.weights})
    model = head(config, image_size=image_size)
    model.load_weights(folder / WEIGHTS_FILE)
    return model


def load_head_config(folder: Path) -> HeadConfig:
    """Read what a stored head is.

    Raises:
        UserError: the file is damaged, or of another version of the pipeline.
    """
    return HeadConfig.read(folder / CONFIG_FILE)


def load_network(folder: Path, dtype: str = "float32") -> keras.Model:
    """Build a stored variant as one network (see `network`), under a Keras dtype policy.

    Raises:
        UserError: a file is damaged, or its head was trained on another backbone.
    """
    own = folder / BACKBONE_FOLDER
    if load_head_config(folder).backbone_weights != backbones.load_config(own).weights:
        raise UserError(
            f"{folder}/ was trained on another backbone than that in {own}/; `dvc repro` trains "
            "it again"
        )
    return network(backbones.load(own, dtype), load_head(folder))
