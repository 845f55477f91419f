"""Files that are damaged, or that don't belong together: every reader names them and stops."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from commands.predict.segmenter import Segmenter
from stages.backbone import stage as backbone
from stages.backbone import weights
from stages.compare import stage as compare
from stages.evaluate import stage as evaluate
from stages.export import stage as export
from stages.features import stage as features
from stages.prepare import stage as prepare
from stages.shared.formats.features import HEAD, Features
from stages.shared.networks import backbones, heads
from stages.shared.runtime import digests
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import MODELS_DIR
from stages.train import stage as train
from tests.conftest import Project


def flip_a_bit(path: Path) -> None:
    """In the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Leave nine tenths of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])


# A file, and what reads it.
READERS: dict[str, list[Callable[[], object]]] = {
    "data/dataset.json": [
        lambda: features.features("vgg19"),
        lambda: train.train("fcn32s"),
        lambda: evaluate.evaluate("fcn8s"),
        compare.compare,
    ],
    "data/records/train-00001.tfrecord": [
        lambda: features.features("vgg19"),
        lambda: train.train("fcn8s-finetuned"),
    ],
    "data/records/test-00000.tfrecord": [
        lambda: evaluate.evaluate("fcn8s-finetuned"),
        compare.compare,
        lambda: export.export("fcn32s"),
    ],
    "models/vgg19/backbone.json": [
        lambda: features.features("vgg19"),
        lambda: train.train("fcn32s"),
    ],
    "models/vgg19/backbone.weights.h5": [
        lambda: features.features("vgg19"),
        lambda: train.train("fcn32s"),
    ],
    "models/fcn8s/backbone/backbone.weights.h5": [
        lambda: train.train("fcn8s-finetuned"),
        lambda: Segmenter(["fcn8s"]),
        lambda: export.export("fcn8s"),
    ],
    "data/features/vgg19/head/features.json": [
        lambda: train.train("fcn16s"),
        lambda: evaluate.evaluate("fcn16s"),
    ],
    "data/features/vgg19/network/features.json": [
        lambda: train.train("fcn8s-finetuned"),
        lambda: evaluate.evaluate("fcn8s-finetuned"),
    ],
    "data/taps/vgg19.json": [lambda: features.features("vgg19")],
    "data/features/vgg19/head/train-00000.stride32.npy": [lambda: train.train("fcn32s")],
    "data/features/vgg19/head/train-00001.stride16_scale.npy": [lambda: train.train("fcn16s")],
    "data/features/vgg19/head/validation-00000.mask.npy": [lambda: train.train("fcn32s")],
    "data/features/vgg19/head/test-00000.stride8.npy": [lambda: evaluate.evaluate("fcn8s")],
    "models/fcn16s/head.json": [
        lambda: train.train("fcn8s"),
        lambda: evaluate.evaluate("fcn16s"),
        lambda: Segmenter(["fcn16s"]),
    ],
    "models/fcn16s/head.weights.h5": [
        lambda: train.train("fcn8s"),
        lambda: evaluate.evaluate("fcn16s"),
        lambda: Segmenter(["fcn16s"]),
    ],
    "models/fcn8s-finetuned/backbone/backbone.weights.h5": [
        lambda: evaluate.evaluate("fcn8s-finetuned"),
        lambda: Segmenter(["fcn8s-finetuned"]),
    ],
    "data/evaluation/fcn8s/summary.json": [compare.compare],
    "data/evaluation/fcn8s/predictions.tfrecord": [compare.compare],
}


@pytest.mark.parametrize("damage", [flip_a_bit, cut])
@pytest.mark.parametrize("file", READERS)
def test_a_damaged_file_is_named_by_whatever_reads_it(file: str, damage, in_project: Project):
    before = {p: p.read_bytes() for p in Path("models").rglob("*.h5")}
    damage(Path(file))
    before[Path(file)] = Path(file).read_bytes()
    for read in READERS[file]:
        with pytest.raises(UserError) as error:
            read()
        assert f"{file} is " in str(error.value), error.value
    assert {p: p.read_bytes() for p in before} == before


def test_the_way_out_of_a_damaged_file_is_a_command_that_works(project: Project):
    shard = project.folder / "data/features/vgg19/head/train-00000.stride32.npy"
    whole = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(whole)
    flip_a_bit(shard)
    done = project.stage("train", "fcn32s", check=False)
    command = done.stderr.partition("; `")[2].partition("`")[0]
    assert command == "dvc repro --force --single-item features@vgg19"
    project.run(*command.split())
    assert shard.read_bytes() == whole


def test_the_manifests_say_what_the_files_were_made_from(in_project: Project):
    dataset, features_, head = (
        json.loads(Path(path).read_text())
        for path in (
            "data/dataset.json",
            "data/features/vgg19/head/features.json",
            "models/fcn8s/head.json",
        )
    )
    weights = digests.digest(Path("models/vgg19/backbone.weights.h5"))
    assert features_["backbone_weights"] == head["backbone_weights"] == weights
    assert dataset["classes"] == features_["classes"] == head["classes"]
    assert dataset["image_size"] == features_["image_size"] == [64, 64]
    assert {tap: t["shape"] for tap, t in features_["taps"].items()} == {
        "stride8": [8, 8, 16],
        "stride16": [4, 4, 32],
        "stride32": [2, 2, 256],
    }


def test_a_manifest_that_another_library_has_written_is_whole(in_project: Project):
    """The digest is of the bytes, not of how this version of pydantic would write them."""
    path = Path("data/features/vgg19/head/features.json")
    content = json.loads(path.read_bytes())
    del content["digest"]
    text = json.dumps(content, indent=1, sort_keys=True).removesuffix("\n}").encode()
    digest = xxhash.xxh3_128_hexdigest(text)
    before = Features.load("vgg19", HEAD)
    path.write_bytes(text + f',\n  "digest": "{digest}"\n}}\n'.encode())
    assert Features.load("vgg19", HEAD) == before
    path.write_bytes(path.read_bytes().replace(b'\n "', b'\n  "', 1))
    with pytest.raises(UserError, match="its digest does not match"):
        Features.load("vgg19", HEAD)


def test_a_file_of_another_version_of_the_pipeline_is_named(in_project: Project):
    path = Path("models/fcn32s/head.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 1}))
    with pytest.raises(UserError, match=r"head\.json is of another version of this pipeline"):
        evaluate.evaluate("fcn32s")


def test_features_of_another_backbone_are_refused(in_project: Project):
    vgg19 = MODELS_DIR / "vgg19"
    other = backbones.build("vgg19", 0.0625, seed=5)
    backbones.save(other, backbones.load_config(vgg19), vgg19)
    with pytest.raises(UserError, match="are of another backbone than that of models/vgg19/"):
        train.train("fcn32s")
    features.features("vgg19")
    with pytest.raises(UserError, match="are of another backbone than that of models/fcn32s"):
        evaluate.evaluate("fcn32s")
    with pytest.raises(UserError, match="are of another backbone than that of models/fcn32s/b"):
        train.train("fcn16s")
    shutil.copytree(vgg19, "models/fcn32s/backbone", dirs_exist_ok=True)
    with pytest.raises(
        UserError, match="models/fcn32s/ has another backbone than data/features/vgg19/"
    ):
        train.train("fcn16s")
    for read in (lambda: Segmenter(["fcn32s"]), lambda: export.export("fcn32s")):
        with pytest.raises(UserError, match="fcn32s/ was trained on another backbone than that"):
            read()


def test_a_head_of_another_width_is_refused(in_project: Project):
    in_project.set_params({"backbones.vgg19.width": 0.125})
    backbone.backbone("vgg19")
    features.features("vgg19")
    with pytest.raises(UserError, match="another backbone"):
        evaluate.evaluate("fcn32s")
    # As if the digests had been the same.
    shutil.copytree(MODELS_DIR / "vgg19", "models/fcn32s/backbone", dirs_exist_ok=True)
    path = Path("models/fcn32s/head.json")
    head = heads.HeadConfig.read(path)
    head.model_copy(
        update={"backbone_weights": backbones.load_config(MODELS_DIR / "vgg19").weights}
    ).write(path)
    with pytest.raises(UserError, match="models/fcn32s/ has another number of channels than"):
        train.train("fcn16s")


def test_records_of_other_classes_are_refused(in_project: Project):
    in_project.set_params({"dataset.ignore": [4]})
    prepare.prepare()
    with pytest.raises(
        UserError, match="features/vgg19/head/ was made from other records than data/records/"
    ):
        train.train("fcn32s")
    with pytest.raises(
        UserError, match="evaluation/fcn32s/ was measured on other records or another split"
    ):
        compare.compare()
    for name in ("fcn32s", "fcn8s-finetuned"):
        with pytest.raises(UserError, match="has the classes ground, disc, ring, bar, tile, dat"):
            evaluate.evaluate(name)


def test_an_evaluation_of_another_split_is_refused(in_project: Project):
    in_project.set_params({"evaluate.split": "validation"})
    with pytest.raises(UserError, match="another split than data/records/ and validation"):
        compare.compare()


def test_weights_that_hold_a_pickle_are_refused_and_nothing_runs(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights.h5").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(UserError, match="does not hold the weights of vgg19"):
        weights.load(backbones.build("vgg19", 0.01), "weights.h5", "backbones.b.weights")
    assert not Path("owned").exists()
