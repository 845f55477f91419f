"""VGG as a fully convolutional backbone.

The convolutions are those of "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(Simonyan, Zisserman, table 1); fc6 and fc7 are turned into convolutions as in "Fully Convolutional
Networks for Semantic Segmentation" (Long, Shelhamer, Darrell, section 3.1): a Dense layer over a
7x7x512 map is a 7x7 convolution with the same weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import keras
from keras import KerasTensor, layers, ops

from stages.shared.manifest import Manifest
from stages.shared.runtime import digests

# Mean of ImageNet's training pictures, BGR, 0 to 255 (keras.applications.imagenet_utils, "caffe").
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
COARSEST_STRIDE = 32
# Stride of a tap in pixels, and the layer whose activations it is.
TAPS = {8: "pool3", 16: "pool4", 32: "fc7"}
BACKBONE_DIR = Path("models/backbone")
WEIGHTS_FILE, CONFIG_FILE = "backbone.weights.h5", "backbone.json"
# In the folder of a variant that trained the whole network.
OWN_BACKBONE = "backbone"

# Of a tensor; None where any size will do.
Shape = tuple[int | None, ...]


class Network(NamedTuple):
    """A published network.

    Attributes:
        convolutions: in each block.
        channels: of each block's convolutions.
        dense: channels of fc6 and fc7.
        application: Keras's model of it.
        licence: of the published weights.
    """

    convolutions: tuple[int, ...]
    channels: tuple[int, ...]
    dense: int
    application: Callable[..., keras.Model]
    licence: str


VGG_LICENCE = (
    "CC BY 4.0 (Visual Geometry Group, University of Oxford), trained on ImageNet, whose pictures "
    "are for non-commercial research"
)
NETWORKS = {
    "vgg19": Network(
        (2, 2, 4, 4, 4),
        (64, 128, 256, 512, 512),
        4096,
        keras.applications.VGG19,
        VGG_LICENCE,
    ),
}


class BackboneConfig(Manifest):
    """Configuration of a stored backbone.

    Attributes:
        network: an entry of `NETWORKS`.
        width: share of its channels.
        origin: of its first weights: `imagenet`, `random`, or the path of a file.
        weights: SHA-256 of the file of weights.
    """

    schema_version: Literal[4] = 4
    network: str
    width: float
    origin: str
    weights: str


@keras.saving.register_keras_serializable("stages")
class Preprocess(layers.Layer):
    """RGB pictures, 0 to 255, to what VGG was trained on: BGR with ImageNet's mean subtracted.

    The bottom and right borders are then padded with that mean to a multiple of 32, so that every
    pooling layer halves a whole number of pixels.

    Shapes: (batch, height, width, 3) to (batch, height', width', 3), any real or integer dtype to
    the layer's compute dtype.
    """

    def call(self, images: KerasTensor) -> KerasTensor:
        mean = ops.convert_to_tensor(IMAGENET_MEAN_BGR, "float32")
        x = ops.flip(ops.cast(images, "float32"), axis=-1) - mean
        batch, height, width, channels = ops.shape(images)
        # Not `-side % 32`: ONNX's remainder of a negative number is negative.
        bottom, right = (
            (COARSEST_STRIDE - side % COARSEST_STRIDE) % COARSEST_STRIDE for side in (height, width)
        )
        x = ops.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
        # Padding by an unknown amount hides the number of channels from LiteRT.
        x = ops.reshape(x, (batch, height + bottom, width + right, channels))
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, *size, channels = input_shape
        padded = (n and n + -n % COARSEST_STRIDE for n in size)
        return (batch, *padded, channels)


def backbone(
    network: str = "vgg19", width: float = 1.0, seed: int | None = None, dtype: str = "float32"
) -> keras.Model:
    """Build the backbone, He-normal initialised.

    Args:
        network: an entry of `NETWORKS`.
        width: share of the published number of channels, rounded, at least 1 channel.
        seed: of the initial weights; None leaves them at zero, for weights that will be loaded.
        dtype: Keras dtype policy.

    Returns:
        A model of pictures, (batch, height, width, 3) RGB from 0 to 255, any height and width, to a
        dict of activations: `pool3`, `pool4` and `fc7`, (batch, ceil(height / 32) * 32 / stride,
        same of width, channels), in the policy's compute dtype.

    Example:
        >>> taps = backbone(width=0.125, seed=0)(np.zeros((1, 64, 96, 3), "uint8"))
        >>> taps["fc7"].shape
        (1, 2, 3, 512)
    """
    convolutions, channels, dense, *_ = NETWORKS[network]

    def convolve(x: KerasTensor, filters: int, size: int, name: str, index: int) -> KerasTensor:
        he_normal = keras.initializers.HeNormal(None if seed is None else (seed * 1000 + index))
        layer = layers.Conv2D(
            max(1, round(filters * width)),
            size,
            padding="same",
            activation="relu",
            kernel_initializer="zeros" if seed is None else he_normal,
            name=name,
            dtype=dtype,
        )
        return layer(x)

    pictures = keras.Input((None, None, 3), name="pictures")
    x = Preprocess(name="preprocess", dtype=dtype)(pictures)
    taps = {}
    index = 0
    for block, (count, filters) in enumerate(zip(convolutions, channels, strict=True), start=1):
        for number in range(1, count + 1):
            x = convolve(x, filters, 3, f"block{block}_conv{number}", index)
            index += 1
        x = layers.MaxPooling2D(2, name=f"pool{block}", dtype=dtype)(x)
        taps[f"pool{block}"] = x
    x = convolve(x, dense, 7, "fc6", index)
    taps["fc7"] = convolve(x, dense, 1, "fc7", index + 1)
    return keras.Model(pictures, {tap: taps[tap] for tap in TAPS.values()}, name=network)


def copy_classifier(model: keras.Model, classifier: keras.Model) -> None:
    """Copy the weights of a keras.applications VGG, its Dense layers too, into the backbone.

    Args:
        model: what `backbone` built, at width 1.
        classifier: the application of the same network, with its top.
    """
    for layer in model.layers:
        if not layer.weights:
            continue
        dense = {"fc6": "fc1", "fc7": "fc2"}.get(layer.name, layer.name)
        kernel, bias = classifier.get_layer(dense).get_weights()
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])


def save(model: keras.Model, width: float, origin: str, folder: Path) -> BackboneConfig:
    """Write a backbone's weights, and what it takes to build it again, into a folder."""
    folder.mkdir(exist_ok=True)
    model.save_weights(folder / WEIGHTS_FILE)
    weights = digests.digest(folder / WEIGHTS_FILE)
    config = BackboneConfig(network=model.name, width=width, origin=origin, weights=weights)
    config.write(folder / CONFIG_FILE)
    return config


def load(folder: Path = BACKBONE_DIR, dtype: str = "float32") -> keras.Model:
    """Build a stored backbone under a Keras dtype policy.

    Raises:
        UserError: a file is damaged, or of another version of the pipeline.
    """
    config = load_config(folder)
    digests.require_whole({folder / WEIGHTS_FILE: config.weights})
    model = backbone(config.network, config.width, dtype=dtype)
    model.load_weights(folder / WEIGHTS_FILE)
    return model


def weight_bytes(model: keras.Model) -> int:
    """Bytes that a network's weights take, as float32."""
    return 4 * model.count_params()


def tap_shapes(model: keras.Model, image_size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """Shape of each tap's activations, (height, width, channels), on a picture of this size."""
    height, width = (-(-side // COARSEST_STRIDE) * COARSEST_STRIDE for side in image_size)
    return {
        tap: (height // stride, width // stride, model.output[tap].shape[-1])
        for stride, tap in TAPS.items()
    }


def backbone_dir(variant_dir: Path) -> Path:
    """Folder of the backbone of a variant: its own if it trained one, else the shared one."""
    own = variant_dir / OWN_BACKBONE
    return own if own.exists() else BACKBONE_DIR


def reach(network: str) -> int:
    """How far the receptive field of a pixel's logits extends, rounded up to the coarsest stride.

    A 3x3 convolution sees one pixel of its own stride to each side, fc6 three; bilinear upsampling
    reads the neighbouring score.
    """
    convolutions = NETWORKS[network].convolutions
    seen = sum(count * 2**block for block, count in enumerate(convolutions))
    seen += (7 // 2 + 1) * COARSEST_STRIDE
    return -(-seen // COARSEST_STRIDE) * COARSEST_STRIDE


def load_config(folder: Path = BACKBONE_DIR) -> BackboneConfig:
    """Read what a stored backbone is.

    Raises:
        UserError: the file is damaged, or of another version of the pipeline.
    """
    return BackboneConfig.read(folder / CONFIG_FILE)
