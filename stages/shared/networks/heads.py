"""Heads: a decoder on a backbone's taps, from activations to logits of the picture's size."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from stages.shared.manifest import Manifest
from stages.shared.networks import backbones
from stages.shared.networks.backbones import BACKBONE_FOLDER
from stages.shared.networks.decoders import DECODERS, Project
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE, Shape
from stages.shared.networks.families.upsampling import Upsample
from stages.shared.records.tiles import Size, Tiling
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError

WEIGHTS_FILE, CONFIG_FILE = "head.weights.h5", "head.json"
# The layer that upsamples the logits at a head's stride.
TO_PICTURE = "upsample_to_picture"


class Projection(NamedTuple):
    """Weights of a tap's projection: kernel (channels, filters), and bias (filters,), float32."""

    kernel: np.ndarray
    bias: np.ndarray


class HeadConfig(Manifest):
    """Configuration of a stored head.

    Attributes:
        decoder: an entry of `DECODERS`.
        width: channels of its maps, if it has any but the logits.
        context: its context blocks.
        stride: of the finest tap, in pixels.
        channels: of each tap that it reads, the coarsest first.
        classes: their names, in the order of the logits.
        image_size: (height, width) of the pictures that it was trained on.
        fit: how they were brought to this size, see `dataset.fit` in params.yaml.
        tiling: how they were cut into tiles of this size, if they were.
        cut_from: with tiles, (height, width) of the smallest and of the largest that was cut.
        greys: the values that are black and white in pictures of more than 8 bits; None: it knows
            no such pictures.
        backbone: the entry of `backbones` in params.yaml that it stands on.
        frozen: whether the backbone still has the weights that its features were computed with.
        backbone_weights: digest of those that it has.
        weights: digest of its own; empty before they are written.
    """

    schema_version: Literal[7] = 7
    decoder: str = "fcn"
    width: int = 0
    context: int = 0
    stride: int
    channels: dict[str, int]
    classes: list[str]
    image_size: tuple[int, int]
    fit: str
    tiling: Tiling | None = None
    cut_from: tuple[Size, Size] | None = None
    greys: tuple[float, float] | None = None
    backbone: str
    frozen: bool = True
    backbone_weights: str = ""
    weights: str = ""


@keras.saving.register_keras_serializable("stages")
class CropLike(layers.Layer):
    """Cut the bottom and right off, to the height and width of the pictures."""

    def call(self, logits: KerasTensor, pictures: KerasTensor) -> KerasTensor:
        height, width = ops.shape(pictures)[1:3]
        return logits[:, :height, :width]

    def compute_output_shape(self, logits_shape: Shape, pictures_shape: Shape) -> Shape:
        return (logits_shape[0], *pictures_shape[1:3], logits_shape[3])


def projection_name(tap: str) -> str:
    """The name of the layer that is a tap's projection."""
    return f"project_{tap}"


def plain_projection(tap: str, filters: int, initializer: str) -> layers.Layer:
    """The projection of a tap: a 1x1 convolution."""
    return layers.Conv2D(filters, 1, kernel_initializer=initializer, name=projection_name(tap))


def build(
    config: HeadConfig,
    image_size: tuple[int, int] | None = None,
    project: Project = plain_projection,
) -> keras.Model:
    """Build a head.

    Args:
        config: its decoder, taps and classes.
        image_size: (height, width) that the logits are cut to; None leaves them at `stride` times
            the finest tap's.
        project: makes the layer that is a tap's projection.

    Returns:
        A model of a dict of activations, (batch, height / tap's stride, width / tap's stride,
        channels), to logits, float32 (batch, height, width, classes).
    """
    inputs = {
        tap: keras.Input((None, None, channels), name=tap)
        for tap, channels in config.channels.items()
    }
    decode = DECODERS[config.decoder]
    logits = decode(inputs, project, len(config.classes), config.width, config.context)
    logits = Upsample(config.stride, name=TO_PICTURE)(logits)
    if image_size:
        # The backbone pads at the bottom and right, see `Preprocess`.
        padding = tuple((0, -size % COARSEST_STRIDE) for size in image_size)
        logits = layers.Cropping2D(padding, name="crop")(logits)
    return keras.Model(inputs, logits, name=f"{config.decoder}_{config.stride}s")


def scores(head: keras.Model) -> keras.Model:
    """A head, with the same weights, to its logits at its stride, neither upsampled nor cut."""
    return keras.Model(head.input, head.get_layer(TO_PICTURE).input, name=f"{head.name}_scores")


def network(backbone: keras.Model, head: keras.Model, *others: keras.Model) -> keras.Model:
    """The whole network.

    Args:
        backbone: from `backbones`.
        head: from `build`, its logits not cut.
        others: more heads, for which the backbone runs once.

    Returns:
        A model of pictures, (batch, height, width, 3) RGB from 0 to 255, any height and width, to
        logits, float32 (batch, height, width, classes), of several heads one after the other along
        the last axis.

    Example:
        >>> fcn8s = network(backbones.load(Path("models/vgg19")), load(Path("models/fcn8s")))
        >>> fcn8s(np.zeros((1, 100, 150, 3), "uint8")).shape
        (1, 100, 150, 3)
    """
    pictures = keras.Input((None, None, 3), name="pictures")
    taps = backbone(pictures)
    for number, other in enumerate(others, start=1):
        # Two heads of one decoder and stride have one name.
        other.name = f"{other.name}_{number}"
    logits = [_reading(each, taps) for each in (head, *others)]
    joined = layers.Concatenate(name="heads")(logits) if others else logits[0]
    return keras.Model(pictures, CropLike(name="crop")(joined, pictures))


def scored(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """A backbone and what `scores` returns: from pictures to logits at the head's stride."""
    pictures = keras.Input((None, None, 3), name="pictures")
    return keras.Model(pictures, _reading(head, backbone(pictures)))


def _reading(head: keras.Model, taps: Mapping[str, KerasTensor]) -> KerasTensor:
    """What a head makes of those of a backbone's taps that it reads."""
    return head({tap: taps[tap] for tap in head.input})


def projections(head: keras.Model) -> dict[str, Projection]:
    """The weights of a head's projections, by tap."""
    return {
        tap: Projection(kernel.reshape(kernel.shape[-2:]), bias)
        for tap in head.input
        for kernel, bias in [head.get_layer(projection_name(tap)).get_weights()]
    }


def set_projections(head: keras.Model, weights: dict[str, Projection]) -> None:
    """Set the weights of projections, by tap; the others keep theirs."""
    for tap, (kernel, bias) in weights.items():
        layer = head.get_layer(projection_name(tap))
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])


def transfer(
    source: keras.Model, target: keras.Model, change: Callable[[str, Projection], Projection]
) -> None:
    """Copy a head's weights into another of the same decoder; layers that it has more keep theirs.

    Args:
        source: a head on some of the target's taps.
        target: is changed.
        change: of a tap's projection on its way.
    """
    given = {layer.name: layer for layer in source.layers if layer.weights}
    read = {projection_name(tap) for tap in source.input}
    for layer in target.layers:
        if layer.name in given and layer.name not in read:
            layer.set_weights(given[layer.name].get_weights())
    changed = {tap: change(tap, weights) for tap, weights in projections(source).items()}
    set_projections(target, changed)


def save(head: keras.Model, config: HeadConfig, folder: Path) -> None:
    """Write a plain head's weights, and what it takes to build it again, into a folder."""
    head.save_weights(folder / WEIGHTS_FILE)
    digest = digests.digest(folder / WEIGHTS_FILE)
    config.model_copy(update={"weights": digest}).write(folder / CONFIG_FILE)


def load(folder: Path, image_size: tuple[int, int] | None = None) -> keras.Model:
    """Build a stored head, its logits cut to `image_size` (see `build`).

    Raises:
        UserError: a file is damaged, or of another version of the pipeline.
    """
    config = load_config(folder)
    digests.require_whole({folder / WEIGHTS_FILE: config.weights})
    head = build(config, image_size=image_size)
    head.load_weights(folder / WEIGHTS_FILE)
    return head


def load_config(folder: Path) -> HeadConfig:
    """Read what a stored head is.

    Raises:
        UserError: the file is damaged, or of another version of the pipeline.
    """
    return HeadConfig.read(folder / CONFIG_FILE)


def load_network(folder: Path, dtype: str = "float32", others: Sequence[Path] = ()) -> keras.Model:
    """Build a stored variant as one network (see `network`), under a Keras dtype policy.

    Args:
        folder: of the variant.
        dtype: Keras dtype policy.
        others: folders of variants whose heads stand on the same backbone.

    Raises:
        UserError: a file is damaged, or its head was trained on another backbone.
    """
    own = folder / BACKBONE_FOLDER
    for path in (folder, *others):
        if load_config(path).backbone_weights != backbones.load_config(own).weights:
            raise UserError(
                f"{path}/ was trained on another backbone than that in {own}/; `dvc repro` trains "
                "it again"
            )
    return network(backbones.load(own, dtype), *map(load, (folder, *others)))
