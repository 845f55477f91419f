"""features.store: networks alone need the statistics of activations, not the activations."""

from pathlib import Path

from stages.features.stage import features
from stages.shared.formats.features import Features
from stages.train.stage import train
from tests.conftest import Project


def test_without_stored_activations_a_network_is_trained_to_the_same_bytes(in_project: Project):
    models = in_project.digests("models/fcn8s-finetuned")
    before = Features.load("vgg19")
    in_project.set_params({"features.store": False})
    features("vgg19")
    assert [path.name for path in Path("data/features/vgg19").iterdir()] == ["features.json"]
    after = Features.load("vgg19")
    assert after.taps == before.taps
    assert list(after.shards) == ["train"]
    assert not any(shard.files for shard in after.shards["train"])
    train("fcn8s-finetuned")
    assert in_project.digests("models/fcn8s-finetuned") == models
