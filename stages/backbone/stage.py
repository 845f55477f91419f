"""Stage `backbone@NAME`: a network with its first weights, in models/NAME/."""

from stages.backbone import presets, weights
from stages.backbone.settings import HUB, PRESET, RANDOM, Backbone
from stages.shared.networks import backbones
from stages.shared.networks.backbones import BackboneConfig
from stages.shared.runtime import outputs
from stages.shared.runtime.console import size
from stages.shared.runtime.paths import MODELS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import Seed


def backbone(name: str) -> str:
    """Build the backbone `name`, give it its weights, and store it.

    Raises:
        UserError: as `presets` and `weights.load`.
    """
    key = f"backbones.{name}"
    settings, seed = read(key, Backbone), read("seed", Seed)
    handle = settings.network.partition(HUB)[2]
    preset = presets.described(handle, settings.window, f"{key}.network") if handle else None
    random = settings.weights == RANDOM
    model = backbones.build(
        settings.network,
        settings.width,
        settings.strides,
        seed if random else None,
        preset=preset,
    )
    if preset and settings.weights == PRESET:
        presets.copy(model, preset, f"{key}.network")
    elif not random:
        weights.load(model, settings.weights, f"{key}.weights")
    config = BackboneConfig(
        network=settings.network,
        preset=preset,
        width=settings.width,
        strides=tuple(settings.strides),
        origin=settings.weights,
    )
    folder = MODELS_DIR / name
    with outputs.writing(folder, need=backbones.weight_bytes(model)) as staging:
        backbones.save(model, config, staging.folder(folder))
    return (
        f"{name}: {settings.network}, weights: {settings.weights}, "
        f"{model.count_params():,} parameters, {size(folder)}"
    )
