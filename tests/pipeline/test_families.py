"""Every family of networks, from the records to an export."""

from pathlib import Path

import numpy as np
import pytest

from commands.predict.segmenter import Segmenter
from stages.backbone import stage as backbone
from stages.evaluate import stage as evaluate
from stages.export import stage as export
from stages.features import stage as features
from stages.shared.networks.heads import load_config
from stages.train import stage as train
from tests.backbone.made_up_presets import KINDS, save
from tests.conftest import EVERY_NETWORK, Project
from tests.shared.networks.test_backbones import SMALLEST

# Where conversion is most likely to fail; CAMPAIGN=all takes all formats, and both variants.
FORMATS = ["saved_model", "onnx", "litert"] if EVERY_NETWORK else ["onnx"]
TRIED = SMALLEST if EVERY_NETWORK else ["efficientnet_lite0"]


@pytest.mark.parametrize("network", [*TRIED, *KINDS])
def test_a_network_goes_from_records_to_an_export(
    network: str, in_project: Project, tmp_path: Path
):
    """With random weights; the export compares each format with the pipeline."""
    strides = [4, 8, 16, 32]
    entry = {"network": network, "weights": "random", "strides": strides}
    if network in KINDS:
        handle = save(network, tmp_path / network)
        entry |= {"network": f"hub:{handle}", "weights": "preset", "window": 64}
    variant = {"backbone": "other", "train": "head", "stride": 4, "parent": "other"}
    in_project.set_params(
        {
            "backbones.other": entry,
            "variants.frozen": variant,
            "variants.whole": variant | {"train": "network", "parent": "other", "epochs": 1},
            "export.formats": FORMATS,
        }
    )
    backbone.backbone("other")
    features.features("other")
    for name, frozen in (("frozen", True), ("whole", False)):
        train.train(name)
        evaluate.evaluate(name)
        if frozen or EVERY_NETWORK:
            export.export(name)
        head = load_config(Path("models", name))
        assert (list(head.channels), head.frozen) == (
            ["stride32", "stride16", "stride8", "stride4"],
            frozen,
        )
        picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
        assert Segmenter([name])(picture)[name].shape == (50, 70)
