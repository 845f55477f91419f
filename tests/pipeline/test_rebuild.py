"""The real `dvc` on a tiny copy of the project: which stage runs when."""

import json

import pytest
import yaml

from tests.conftest import ROOT, Project

VARIANTS = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-finetuned"]
TRAIN = [f"train@{name}" for name in VARIANTS]
EVALUATE = [f"evaluate@{name}" for name in VARIANTS]
FINER = [*TRAIN[1:], *EVALUATE[1:], "compare"]
HEAD, NETWORK = {"train": "head"}, {"train": "network", "epochs": 1}
STAND = {"backbone": "vgg19", "stride": 32, "parent": "vgg19"}
# The tiny project exports one variant.
EXPORT = ["export@fcn32s"]
ALL = [
    "check",
    "prepare",
    "backbone@vgg19",
    "features@vgg19",
    *TRAIN,
    *EVALUATE,
    "compare",
    *EXPORT,
]

# After changing this, these run. `check` reads all of params.yaml, so it runs after every edit;
# what it writes never changes, so nothing follows from it. The rate of all
# variants is changed in test_experiments.py.
REBUILDS = {
    "an evaluate key": ({"evaluate.split": "validation"}, [*EVALUATE, "compare", *EXPORT]),
    "a compare key": ({"compare.opacity": 0.3}, ["compare"]),
    "image_size": (
        {"dataset.image_size": [48, 64]},
        ["prepare", "features@vgg19", *TRAIN, *EVALUATE, "compare", *EXPORT],
    ),
}


def test_the_first_run_runs_every_stage_and_the_second_none(project: Project):
    assert project.repro() == []
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    assert sorted(lock["stages"]) == sorted(ALL)
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("change", REBUILDS)
def test_only_what_depends_on_a_change_runs(change: str, project: Project):
    changes, expected = REBUILDS[change]
    project.set_params(changes)
    assert sorted(project.repro()) == sorted(["check", *expected])


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset.splits.validation": 2},
        {"dataset": yaml.safe_load((ROOT / "profiles/pets.yaml").read_text())["dataset"]},
    ],
    ids=["the split", "the data source"],
)
def test_prepare_alone_reads_where_the_data_comes_from(changes: dict, project: Project):
    """Together with the row for `image_size`: what follows a change of prepare is the same."""
    project.set_params(changes)
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    assert set(status) == {"check", "prepare"}


def test_a_key_of_a_variant_runs_what_follows_and_back_to_its_value_is_restored(project: Project):
    before = project.digests("data", "models", "reports")
    original = (project.folder / "params.yaml").read_bytes()
    # Its weights are others for sure, while with another rate the best may still be the parent's.
    project.set_params({"variants.fcn16s.parent": "vgg19"})
    assert sorted(project.repro()) == sorted(["check", *FINER])
    assert project.digests("data", "models", "reports") != before
    (project.folder / "params.yaml").write_bytes(original)
    assert project.repro() == []
    assert project.digests("data", "models", "reports") == before


def test_a_backbone_is_rebuilt_with_what_stands_on_it_and_nothing_else(project: Project):
    own = ["backbone@vgg16", "features@vgg16"]
    entry = {"network": "vgg16", "weights": "random", "width": 0.0625}
    project.set_params({"backbones.vgg16": entry})
    assert project.repro() == ["check", *own]

    # What no head reads is not stored, so the first that does has it computed.
    variant = {"backbone": "vgg16", "stride": 32, "parent": "vgg16"}
    project.set_params({"variants.other": HEAD | variant})
    new = ["train@other", "evaluate@other", "compare"]
    assert project.repro() == ["check", "features@vgg16", *new]

    project.set_params({"backbones.vgg16.strides": [16, 32]})
    # The head's own tap is the same, and so are its predictions.
    assert project.repro() == ["check", *own, "train@other", "evaluate@other"]

    # The backbone is in the variant's folder, and an export reads it from there.
    project.set_params({"export.variants": ["fcn32s", "other"]})
    assert project.repro() == ["check", "export@other"]
    project.set_params({"backbones.vgg16.width": 0.125})
    after = ["train@other", "evaluate@other", "compare", "export@other"]
    assert sorted(project.repro()) == sorted(["check", *own, *after])


def test_a_network_is_not_trained_again_for_what_heads_read(project: Project):
    project.set_params({"variants": {"tuned": NETWORK | STAND, "coarse": HEAD | STAND}})
    project.set_params({"export.variants": []})
    project.repro()
    stored = project.folder / "data/features/vgg19/head"
    assert {path.name.split(".")[1] for path in stored.glob("*.npy")} == {
        "mask",
        "stride32",
        "stride32_scale",
    }
    project.set_params({"variants.fine": HEAD | STAND | {"stride": 16}})
    heads = [f"{stage}@{name}" for name in ("coarse", "fine") for stage in ("train", "evaluate")]
    assert sorted(project.repro()) == sorted(["check", "compare", "features@vgg19", *heads])
    project.set_params({"variants": {"tuned": NETWORK | STAND}})
    assert project.repro() == ["check", "features@vgg19", "compare"]
    assert [path.name for path in stored.iterdir()] == ["features.json"]


def test_a_new_entry_in_params_is_a_new_variant_and_leaves_with_it(project: Project):
    project.set_params(
        {"variants.fcn8s-direct": HEAD | {"backbone": "vgg19", "stride": 8, "parent": "fcn32s"}}
    )
    assert project.repro() == ["check", "train@fcn8s-direct", "evaluate@fcn8s-direct", "compare"]
    # As after an export of it.
    (project.folder / "models/export/fcn8s-direct").mkdir()
    curves = (project.folder / "reports/comparison/curves.csv").read_text()
    assert "\nfcn8s-direct,0," in curves

    project.run("git", "checkout", "--quiet", "params.yaml")
    done = project.run("dvc", "repro")
    outputs = ("data/evaluation", "models", "reports", "models/export")
    former = " ".join(f"{folder}/fcn8s-direct" for folder in outputs)
    assert f"rm -r {former}" in done.stdout
    assert "fcn8s-direct" not in (project.folder / "reports/comparison/curves.csv").read_text()
