"""data/taps/: only what heads read is stored; networks need the statistics of activations alone."""

from pathlib import Path

import pytest

from stages.features.stage import features
from stages.shared.formats import taps
from stages.shared.formats.features import HEAD, NETWORK, Features
from stages.train.stage import train
from tests.conftest import Project


@pytest.mark.parametrize(
    "heads, stored", [([], ()), ([32], (32,)), ([32, 8], (8, 16, 32)), ([16, 16], (16, 32))]
)
def test_a_head_reads_its_own_tap_and_all_coarser(heads: list[int], stored: tuple[int, ...]):
    assert taps.read_by(heads, [8, 16, 32]).strides == stored


def test_check_notes_the_taps_that_the_heads_on_a_backbone_read(in_project: Project):
    assert taps.StoredTaps.read(taps.file("vgg19")).strides == (8, 16, 32)


def test_a_tap_that_no_head_reads_is_not_stored_but_its_statistics_are(in_project: Project):
    before = {reader: Features.load("vgg19", reader) for reader in (HEAD, NETWORK)}
    files = in_project.digests("data/features/vgg19/head")
    taps.read_by([16], [8, 16, 32]).write(taps.file("vgg19"))
    features("vgg19")
    assert Features.load("vgg19", NETWORK) == before[NETWORK]
    assert set(Features.load("vgg19", HEAD).taps) == {"stride16", "stride32"}
    # The others are the same bytes.
    arrays = {path: digest for path, digest in files.items() if path.endswith(".npy")}
    found = in_project.digests("data/features/vgg19/head")
    assert {path for path in arrays if "stride8" in path}.isdisjoint(found)
    assert found.items() >= {p: d for p, d in arrays.items() if "stride8" not in p}.items()


def test_without_heads_nothing_is_stored_and_a_network_is_trained_to_the_same_bytes(
    in_project: Project,
):
    models, before = in_project.digests("models/fcn8s-finetuned"), Features.load("vgg19", NETWORK)
    taps.read_by([], [8, 16, 32]).write(taps.file("vgg19"))
    message = features("vgg19")
    assert "statistics alone, as no variant with train: head reads activations" in message
    assert [path.name for path in Path("data/features/vgg19/head").iterdir()] == ["features.json"]
    assert Features.load("vgg19", NETWORK) == before
    train("fcn8s-finetuned")
    assert in_project.digests("models/fcn8s-finetuned") == models
