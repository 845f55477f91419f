"""Every family of networks, from the records to an export."""

from pathlib import Path

import numpy as np
import pytest

from commands.predict.segmenter import Segmenter
from stages.backbone import stage as backbone
from stages.check.stage import check
from stages.evaluate import stage as evaluate
from stages.export import stage as export
from stages.features import stage as features
from stages.shared.networks.decoders import DECODERS
from stages.shared.networks.heads import load_config
from stages.train import stage as train
from tests.backbone.made_up_presets import KINDS, save
from tests.conftest import CAMPAIGN, EVERY_NETWORK, Project
from tests.shared.networks.test_backbones import SMALLEST

# CAMPAIGN=yes takes the smallest of each family but VGG, which all other tests take; CAMPAIGN=all
# takes all formats of each, and both of its variants.
TRIED = [n for n in SMALLEST if n != "vgg19"] if CAMPAIGN else ["efficientnet_lite0"]
# Every decoder, on one network.
OTHERS = [("efficientnet_lite0", decoder) for decoder in DECODERS if decoder != "fcn"]


def formats(network: str, decoder: str) -> list[str]:
    """Those that conversion is tried to."""
    if EVERY_NETWORK:
        return ["saved_model", "onnx", "litert"]
    return ["saved_model", "onnx"] if network in TRIED and decoder == "fcn" else ["onnx"]


@pytest.mark.parametrize(
    ("network", "decoder"), [*((name, "fcn") for name in (*TRIED, *KINDS)), *OTHERS]
)
def test_a_network_goes_from_records_to_an_export(
    network: str, decoder: str, in_project: Project, tmp_path: Path
):
    """With random weights; the export compares each format with the pipeline."""
    strides = [4, 8, 16, 32]
    entry = {"network": network, "weights": "random", "strides": strides}
    if network in KINDS:
        handle = save(network, tmp_path / network)
        entry |= {"network": f"hub:{handle}", "weights": "preset", "window": 64}
    variant = {"backbone": "other", "train": "head", "stride": 4, "parent": "other"}
    if decoder != "fcn":
        variant |= {"decoder": decoder, "width": 16, "context": 1}
    in_project.set_params(
        {
            "backbones.other": entry,
            "variants.frozen": variant,
            "variants.whole": variant | {"train": "network", "epochs": 1},
            "export.formats": formats(network, decoder),
        }
    )
    check()
    backbone.backbone("other")
    features.features("other")
    # All of a large network takes long to train.
    small = EVERY_NETWORK or network in (*KINDS, "efficientnet_lite0")
    for name in ("frozen", "whole") if small else ("frozen",):
        train.train(name)
        evaluate.evaluate(name)
        if name == "frozen" or EVERY_NETWORK:
            export.export(name)
        head = load_config(Path("models", name))
        assert (head.decoder, list(head.channels), head.frozen) == (
            decoder,
            ["stride32", "stride16", "stride8", "stride4"],
            name == "frozen",
        )
        picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
        assert Segmenter([name])(picture)[name].shape == (50, 70)
