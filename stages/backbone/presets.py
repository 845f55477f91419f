"""Presets of KerasHub: what their network is, and its weights (extras/hub.txt)."""

import json
from collections.abc import Sequence
from typing import Any

import keras

from stages.shared.networks.families.hub import (
    CLASSES,
    PLACES,
    TOKEN_STRIDE,
    Preset,
    keras_hub,
    pyramid,
)
from stages.shared.networks.families.preprocessing import Colours
from stages.shared.runtime.errors import UserError


def described(handle: str, window: int, key: str) -> Preset:
    """What a preset says of its network.

    Args:
        handle: a name that KerasHub knows, one such as `hf://USER/NAME`, or a folder.
        window: side of the squares that a network shall take that takes one size, in pixels.
        key: of the network in params.yaml, for messages.

    Raises:
        UserError: KerasHub is not installed, has no such preset or can't download it, or the
            network is of another class than `CLASSES`.
    """
    backbone = _loaded("Backbone", handle, key, load_weights=False)
    if type(backbone).__name__ not in CLASSES:
        raise UserError(
            f"params.yaml: {key}: {handle} is a {type(backbone).__name__}; use a preset of "
            f"{', '.join(CLASSES)}"
        )
    converter = _loaded("ImageConverter", handle, key)
    return Preset(
        handle=handle,
        name=type(backbone).__name__,
        arguments=json.dumps(_arguments(backbone, window), sort_keys=True),
        colours=colours(converter.scale, converter.offset),
    )


def copy(model: keras.Model, preset: Preset, key: str) -> None:
    """Copy the weights of a preset into a backbone that was built from it.

    Raises:
        UserError: they can't be downloaded.
    """
    options = preset.options
    sized = {k: options[k] for k in ("image_shape", "apply_layernorm") if k in options}
    given = pyramid(_loaded("Backbone", preset.handle, key, load_weights=True, **sized)).weights
    places = [weight for weight in given if weight.name == PLACES]
    for weight, published in zip(model.weights, given, strict=True):
        # What the places of the window are made from are, here, these themselves.
        weight.assign(places[0] if weight.name == "position_embeddings" else published)


def colours(
    scale: float | Sequence[float] | None, offset: float | Sequence[float] | None
) -> Colours:
    """What an ImageConverter does, `x * scale + offset`, as `(x - mean) / deviation`."""
    a, b, c = scale if isinstance(scale, Sequence) else (scale or 1.0,) * 3
    x, y, z = offset if isinstance(offset, Sequence) else (offset or 0.0,) * 3
    return Colours((-x / a, -y / b, -z / c), (1 / a, 1 / b, 1 / c))


def _arguments(backbone: keras.Model, window: int) -> dict[str, Any]:
    """Of a backbone's class, so that it takes windows where it takes one size."""
    found = {k: v for k, v in backbone.get_config().items() if k not in ("dtype", "name")}
    if None not in found.get("image_shape", (None,)):
        side = window * found.get("patch_size", TOKEN_STRIDE) // TOKEN_STRIDE
        sized = ("image_shape", "position_embedding_shape")
        found |= {key: (side, side, 3) for key in sized if key in found}
    # As its authors read levels of DINOv2: through the last normalisation.
    return found | {"apply_layernorm": True} if "apply_layernorm" in found else found


def _loaded(kind: str, handle: str, key: str, **options: Any) -> Any:
    """An object of a preset, a `Backbone` or an `ImageConverter`."""
    room = keras_hub().models if kind == "Backbone" else keras_hub().layers
    try:
        if (found := getattr(room, kind).from_preset(handle, **options)) is not None:
            return found
        reason = "it has none"
    except Exception as error:
        # It raises whatever its loaders, and those who serve the files, stumble over.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raise UserError(
        f"params.yaml: {key}: KerasHub can't load the {kind} of {handle!r} ({reason}); use the "
        "name of a preset (keras.io/keras_hub/presets), or the path of a folder that holds one"
    )
