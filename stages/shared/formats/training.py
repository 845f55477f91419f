"""models/VARIANT/settings.json: how a variant was trained, for the model card."""

from typing import Any, Literal

from stages.shared.manifest import Manifest

SETTINGS_FILE = "settings.json"


class Training(Manifest):
    """How a variant was trained.

    Attributes:
        train: `head` or `network`, see `stages.train.settings.Variant`.
        stride: of the finest tap that it reads, in pixels.
        settings: all others of `train` and of the variant, as params.yaml has them.
        seed: of the whole pipeline.
    """

    schema_version: Literal[3] = 3
    train: str
    stride: int
    settings: dict[str, Any]
    seed: int
