"""Stage `backbone`: VGG19 as a fully convolutional network, in models/backbone/."""

import socket
from pathlib import Path

import keras

from stages.backbone.settings import Backbone
from stages.shared.networks import vgg
from stages.shared.runtime import outputs
from stages.shared.runtime.console import size
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import BACKBONE_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Seed

STALLED_AFTER_SECONDS = 30
WEIGHTS_DIR = Path("data/weights")


def backbone() -> str:
    """Build the backbone, give it its weights, and store it.

    Raises:
        UserError: the weights can't be downloaded, or the file does not hold them.
    """
    settings, seed = read("backbone", Backbone), read("seed", Seed)
    if settings.weights == "random":
        model = vgg.backbone(settings.network, settings.width, seed=seed)
    else:
        model = vgg.backbone(settings.network)
        vgg.copy_classifier(model, published(settings))
    with outputs.writing(BACKBONE_DIR, need=vgg.weight_bytes(model)) as staging:
        vgg.save(model, settings.width, settings.weights, staging.folder(BACKBONE_DIR))
    return (
        f"backbone: {settings.network}, weights: {settings.weights}, "
        f"{model.count_params():,} parameters, {size(BACKBONE_DIR)}"
    )


def published(settings: Backbone) -> keras.Model:
    """The keras.applications model with ImageNet's weights, downloaded once or from a file.

    Raises:
        UserError: as `backbone`.
    """
    application = vgg.NETWORKS[settings.network].application
    if settings.weights == "imagenet":
        socket.setdefaulttimeout(STALLED_AFTER_SECONDS)
        try:
            return application(weights="imagenet")
        except Exception as error:
            # keras.utils.get_file raises a bare Exception with this text.
            if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
                raise
            raise UserError(
                f"the ImageNet weights of {settings.network} cannot be downloaded ({error}); place "
                f"the file in {WEIGHTS_DIR}/ and set backbone.weights to its path, or set "
                "backbone.weights to random, or use the built-in data set: "
                "cp profiles/demo.yaml params.yaml"
            ) from None
    path = Path(settings.weights)
    if not path.is_file():
        raise UserError(
            f"params.yaml: backbone.weights is {settings.weights!r}, which is not a file; use "
            "imagenet, random, or the path of a weights file"
        )
    model = application(weights=None)
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{path} does not hold the weights of {settings.network} as keras.applications "
            f"publishes them, with its top: {str(error).splitlines()[0]}"
        ) from None
    return model
