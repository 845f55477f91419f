"""A backbone: from pictures to a network's activations at some strides, its taps."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import keras

from stages.shared.manifest import Manifest
from stages.shared.networks.families import table
from stages.shared.networks.families.hub import Preset
from stages.shared.networks.families.preprocessing import COARSEST_STRIDE, Preprocess
from stages.shared.runtime import digests

WEIGHTS_FILE, CONFIG_FILE = "backbone.weights.h5", "backbone.json"
# In the folder of a variant, the backbone that its head goes with.
BACKBONE_FOLDER = "backbone"


class BackboneConfig(Manifest):
    """Configuration of a stored backbone.

    Attributes:
        network: an entry of `table.NETWORKS`, or `hub:` and a preset of KerasHub.
        preset: of KerasHub, what it says of the network.
        width: share of its channels.
        strides: of its taps, in pixels, ascending.
        origin: of its first weights: `imagenet`, `preset`, `random`, or the path of a file.
        weights: digest of the file of weights; empty before they are written.
    """

    schema_version: Literal[9] = 9
    network: str
    preset: Preset | None = None
    width: float
    strides: tuple[int, ...]
    origin: str
    weights: str = ""


class Backbone(keras.Model):
    """A model that computes in training what it computes else.

    Its normalisations keep their statistics, and it drops nothing: it starts from the activations
    that a head was trained on, and a few pictures say little of their statistics.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The taps of some pictures."""
        return super().call(inputs, training=False, mask=mask)


def tap(stride: int) -> str:
    """The name of the tap of a stride, such as `stride8`."""
    return f"stride{stride}"


def stride_of(tap: str) -> int:
    """The stride of a tap by its name."""
    return int(tap.removeprefix("stride"))


def from_coarse(taps: Iterable[str], stride: int) -> list[str]:
    """The taps that a head of a stride reads, by name, the coarsest first."""
    return sorted((t for t in taps if stride_of(t) >= stride), key=stride_of, reverse=True)


def build(
    network: str,
    width: float = 1.0,
    strides: Sequence[int] = (8, 16, 32),
    seed: int | None = None,
    dtype: str = "float32",
    preset: Preset | None = None,
) -> keras.Model:
    """Build a backbone with random weights.

    Args:
        network: an entry of `table.NETWORKS`, or `hub:` and a preset of KerasHub.
        width: share of the published number of channels; below 1 only for one that `narrows`.
        strides: of the taps, some of 4, 8, 16 and 32.
        seed: of the weights, He-normal or the application's own; None for weights that will be
            loaded.
        dtype: Keras dtype policy.
        preset: of KerasHub, what it says of the network.

    Returns:
        A model of pictures, (batch, height, width, 3) RGB from 0 to 255, any height and width, to a
        dict of activations, by `tap`: (batch, ceil(height / 32) * 32 / stride, same of width,
        channels), in the policy's compute dtype.

    Example:
        >>> taps = build("vgg19", width=0.125, seed=0)(np.zeros((1, 64, 96, 3), "uint8"))
        >>> taps["stride32"].shape
        (1, 2, 3, 512)
    """
    layers, colours, *_ = table.network(network, preset)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    with dtype_policy(dtype):
        pictures = keras.Input((None, None, 3), name="pictures", dtype="float32")
        preprocessed = Preprocess(colours, name="preprocessing")(pictures)
        taps = layers(preprocessed, width, "zeros" if seed is None else "he_normal")
        name = network.partition(":")[0]
        return Backbone(pictures, {tap(s): taps[s] for s in sorted(strides)}, name=name)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Have new layers run under a Keras dtype policy: applications take none as an argument."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


def save(model: keras.Model, config: BackboneConfig, folder: Path) -> BackboneConfig:
    """Write a backbone's weights, and what it takes to build it again, into a folder.

    Returns:
        The configuration as it is written, with the digest of the weights.
    """
    folder.mkdir(exist_ok=True)
    model.save_weights(folder / WEIGHTS_FILE)
    weights = digests.digest(folder / WEIGHTS_FILE)
    config = config.model_copy(update={"weights": weights})
    config.write(folder / CONFIG_FILE)
    return config


def link(source: Path, target: Path) -> None:
    """Check a stored backbone and have it in another folder too, by hard links or as a copy.

    Raises:
        UserError: a file is damaged, or of another version of the pipeline.
    """
    digests.require_whole({source / WEIGHTS_FILE: load_config(source).weights})
    target.mkdir(exist_ok=True)
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        # A copy into a link would go into the file that it stands for.
        (target / name).unlink(missing_ok=True)
        try:
            os.link((source / name).resolve(), target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)


def load(folder: Path, dtype: str = "float32") -> keras.Model:
    """Build a stored backbone under a Keras dtype policy.

    Raises:
        UserError: a file is damaged, or of another version of the pipeline.
    """
    config = load_config(folder)
    digests.require_whole({folder / WEIGHTS_FILE: config.weights})
    model = build(config.network, config.width, config.strides, dtype=dtype, preset=config.preset)
    model.load_weights(folder / WEIGHTS_FILE)
    return model


def load_config(folder: Path) -> BackboneConfig:
    """Read what a stored backbone is.

    Raises:
        UserError: the file is damaged, or of another version of the pipeline.
    """
    return BackboneConfig.read(folder / CONFIG_FILE)


def weight_bytes(model: keras.Model) -> int:
    """Bytes that a network's weights take, as float32."""
    return 4 * model.count_params()


def tap_shapes(model: keras.Model, image_size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """Shape of each tap's activations, (height, width, channels), on a picture of this size."""
    height, width = (-(-side // COARSEST_STRIDE) * COARSEST_STRIDE for side in image_size)
    return {
        name: (height // stride_of(name), width // stride_of(name), activations.shape[-1])
        for name, activations in model.output.items()
    }
