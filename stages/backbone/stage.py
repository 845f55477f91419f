"""Stage `backbone@NAME`: a network with its first weights, in models/NAME/."""

from stages.backbone import weights
from stages.backbone.settings import Backbone
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
        UserError: as `weights.load`.
    """
    settings, seed = read(f"backbones.{name}", Backbone), read("seed", Seed)
    random = settings.weights == "random"
    model = backbones.build(
        settings.network, settings.width, settings.strides, seed if random else None
    )
    if not random:
        weights.load(model, settings.weights, f"backbones.{name}.weights")
    config = BackboneConfig(
        network=settings.network,
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
