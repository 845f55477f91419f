"""Exports: each format, loaded by its own runtime, gives the pipeline's class maps."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from commands.predict.segmenter import Segmenter, Views
from stages.export import formats, stage
from stages.export.card import Card, model_card
from stages.prepare.sources import demo
from stages.shared.formats.pictures import rgb
from stages.shared.formats.training import SETTINGS_FILE, Training
from stages.shared.networks import backbones, heads
from stages.shared.records.dataset import Dataset
from stages.shared.runtime.errors import UserError
from tests.conftest import Project

# Not those that the stage compares, and none a multiple of 32 but the first.
SIZES = [(64, 96), (75, 131), (257, 190)]


def pictures(size: tuple[int, int]) -> np.ndarray:
    """Two pictures of the demo's generator."""
    return np.stack([demo.draw(size, (5, index))[0] for index in range(2)])


@pytest.fixture
def exported(built_project: Project, monkeypatch) -> Path:
    """The exported variant of the built project, which is the current folder."""
    monkeypatch.chdir(built_project.folder)
    return built_project.folder / "models/export/fcn32s"


@pytest.fixture
def expected(exported: Path) -> dict[tuple[int, int], np.ndarray]:
    """The pipeline's class maps."""
    segment = Segmenter(["fcn32s"], Views(scale=1.0))
    maps = {
        size: np.stack([segment(picture)["fcn32s"] for picture in pictures(size)]) for size in SIZES
    }
    assert all(len(np.unique(found)) > 1 for found in maps.values())
    return maps


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    return float((found == expected).mean())


LOAD_WITHOUT_THE_PROJECT = """
import sys
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for file in sys.argv[2:]:
    maps = serve(pictures=tf.constant(np.load(file)))
    np.savez(file + ".maps", **{key: value.numpy() for key, value in maps.items()})
assert not any(name.partition(".")[0] == "stages" for name in sys.modules)
"""


def test_the_saved_model_needs_tensorflow_alone(exported: Path, expected: dict, tmp_path: Path):
    files = []
    for size in SIZES:
        files.append(str(tmp_path / f"{size[0]}.npy"))
        np.save(files[-1], pictures(size))
    command = [sys.executable, "-I", "-c", LOAD_WITHOUT_THE_PROJECT]
    folder = str(exported / "saved_model")
    subprocess.run([*command, folder, *files], cwd=tmp_path, check=True, capture_output=True)
    for file, size in zip(files, SIZES, strict=True):
        maps = np.load(f"{file}.maps.npz")
        assert agreement(maps["classes"], expected[size]) >= 0.9999
        probabilities = maps["probabilities"]
        assert probabilities.shape == (2, *size, len(demo.CLASSES))
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=-1), maps["classes"])


def test_onnxruntime_gives_the_same(exported: Path, expected: dict):
    onnx.checker.check_model(str(exported / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    for size in SIZES:
        classes, probabilities = session.run(
            ["classes", "probabilities"], {"pictures": pictures(size)}
        )
        assert agreement(classes, expected[size]) >= 0.9999
        np.testing.assert_array_equal(probabilities.argmax(axis=-1), classes)


def test_litert_gives_the_same(exported: Path, expected: dict):
    run = formats.read_litert(exported / "model.tflite")
    for size in SIZES:
        assert agreement(run(pictures(size))["classes"], expected[size]) >= 0.9999


def test_a_variant_with_a_backbone_of_its_own_is_exported_with_that(exported: Path, tmp_path: Path):
    folder = Path("models/fcn8s-finetuned")
    own = folder / "backbone"
    network = heads.network(backbones.load(own), heads.load(folder))
    model = formats.exportable(network)
    thin = formats.thin(model, backbones.load_config(own), heads.load_config(folder))
    for written in formats.FORMATS.values():
        target = tmp_path / written.path
        written.write(model, thin, list(demo.CLASSES), target)
        sample = stage.segmented(network, pictures(SIZES[1]))
        stage.require_agreement(written.read(target), [sample], target)


def test_an_export_that_disagrees_fails_the_stage(exported: Path):
    network = heads.network(backbones.load(Path("models/vgg19")), heads.load(Path("models/fcn32s")))
    run = formats.read_onnx(exported / "model.onnx")

    def one_pixel_in_a_thousand_off(batch: np.ndarray) -> formats.Maps:
        maps = run(batch)
        maps["classes"].ravel()[::1000] += 1
        return maps

    samples = [stage.segmented(network, pictures(size)) for size in SIZES]
    stage.require_agreement(run, samples, exported)
    with pytest.raises(UserError, match=r"gives the pipeline's class on 99\.\d+% of the pixels"):
        stage.require_agreement(one_pixel_in_a_thousand_off, samples, exported)


@pytest.mark.parametrize(("share", "accepted"), [(0.5, True), (2.0, False)])
def test_two_classes_that_rounding_may_swap_agree(share: float, accepted: bool):
    """The second class of every pixel is nearly as good as the first."""
    logits = np.zeros((1, 2, 2, 3), np.float32)
    logits[..., 0], logits[..., 1] = 1.0, 1.0 - share * stage.TIE
    sample = stage.Sample(np.zeros((1, 2, 2, 3), np.uint8), logits)
    expectation = nullcontext() if accepted else pytest.raises(UserError, match=r"on 0\.0000%")
    with expectation:
        stage.require_agreement(lambda _: {"classes": np.ones((1, 2, 2), np.uint8)}, [sample], "x")


def test_an_export_twice_gives_the_same_bytes(project: Project):
    before = project.digests("models/export/fcn32s")
    assert len(before) == 6
    project.run("dvc", "repro", "--single-item", "--force", "export@fcn32s")
    assert project.digests("models/export/fcn32s") == before


def test_weights_are_replaced_whatever_their_order_in_the_graph():
    random = np.random.default_rng(0)
    thin, full = random.normal(size=(3, 3, 4, 5)), random.normal(size=(3, 3, 40, 50))
    thin_bias, full_bias = random.normal(size=(5,)), random.normal(size=(50,))
    graph = onnx.GraphProto()
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.arange(7), "something else"),
            numpy_helper.from_array(thin_bias.reshape(1, 5, 1, 1), "bias"),
            numpy_helper.from_array(np.ascontiguousarray(thin.transpose(3, 2, 0, 1)), "kernel"),
        ]
    )
    formats.replace_weights(graph, [thin, thin_bias], [full, full_bias])
    other, bias, kernel = (numpy_helper.to_array(entry) for entry in graph.initializer)
    np.testing.assert_array_equal(other, np.arange(7))
    np.testing.assert_array_equal(bias, full_bias.reshape(1, 50, 1, 1))
    np.testing.assert_array_equal(kernel, full.transpose(3, 2, 0, 1))
    with pytest.raises(ValueError, match=r"no weight of shape \(2,\)"):
        formats.replace_weights(graph, [random.normal(size=2)], [full_bias])


def test_the_model_card_tells_what_the_files_hold(exported: Path, built_project: Project):
    card = (exported / "README.md").read_text(encoding="utf-8")
    metrics = json.loads(Path("reports/fcn32s/metrics.json").read_text())
    network: keras.Model = Segmenter(["fcn32s"]).network
    for words in (
        "# fcn32s\n",
        f"{network.count_params():,} parameters",
        "| mean_iou | {:.4f} |".format(metrics["mean_iou"]),
        f"{metrics['gflop']:.3g} GFLOP for a picture",
        f"stores {metrics['feature_bytes']:,} bytes of activations",
        "| IoU of ring | {:.4f} |".format(metrics["iou"]["ring"]),
        "On the test split.",
        "6 train, 3 validation, 3 test; 0 left out",
        "| 2 | ring | #cc79a7 |",
        f"| epochs | {built_project.params['train']['epochs']} |",
        "no published weights are inside",
    ):
        assert words in card


def test_the_model_card_names_the_licence_of_published_weights(exported: Path):
    published = backbones.load_config(Path("models/vgg19")).model_copy(
        update={"origin": "imagenet"}
    )
    card = model_card(
        Card(
            name="fcn32s",
            training=Training.read(Path("models/fcn32s") / SETTINGS_FILE),
            backbone=published,
            parameters=1,
            dataset=Dataset.load(),
            split="test",
            metrics=json.loads(Path("reports/fcn32s/metrics.json").read_text()),
            formats=["onnx"],
        )
    )
    assert "began with published weights (imagenet): CC BY 4.0" in card


def test_the_code_in_the_model_card_runs_as_written(exported: Path, tmp_path: Path):
    folder = tmp_path / "shipped"
    shutil.copytree(exported, folder)
    picture = demo.draw((300, 200), (5, 9))[0]
    Image.fromarray(picture).save(folder / "photo.jpg")
    card = (folder / "README.md").read_text(encoding="utf-8")
    read, *uses, back = [block.partition("```")[0] for block in card.split("```python\n")[1:]]
    assert len(uses) == len(formats.FORMATS)
    saves = (f"{use}\nnp.save('{number}.npy', classes)" for number, use in enumerate(uses))
    program = "\n".join([read, *saves, back, "mask.save('mask.png')"])
    subprocess.run([sys.executable, "-I", "-c", program], cwd=folder, check=True)
    shown = np.asarray(Image.open(folder / "photo.jpg"))
    expected = class_map_as_trained(shown)
    for number in range(len(uses)):
        assert (np.load(folder / f"{number}.npy")[0] == expected).mean() >= 0.9999
    nearest = Image.fromarray(expected).resize((200, 300), Image.Resampling.NEAREST)
    mask = np.asarray(Image.open(folder / "mask.png"))
    assert (mask == np.asarray(nearest)).mean() >= 0.9999


def test_onnx_names_its_axes_and_the_classes(exported: Path):
    model = onnx.load(str(exported / "model.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        axes = [size.dim_param for size in value.type.tensor_type.shape.dim]
        assert axes[:3] == ["batch", "height", "width"]
    (classes,) = [entry.value for entry in model.metadata_props if entry.key == "classes"]
    assert json.loads(classes) == list(demo.CLASSES)


def class_map_as_trained(picture: np.ndarray) -> np.ndarray:
    """The pipeline's class map of a picture, at the size at which the network sees it."""
    segment = Segmenter(["fcn32s"])
    resized = segment.resized(picture)
    return segment.class_maps(resized[None], [resized.shape[:2]])[0]["fcn32s"]


def test_the_model_registry_hands_out_a_registered_version(project: Project):
    """With a tag of the form that DVC's registry knows, `dvc artifacts get` finds the export."""
    pipeline = (project.folder / "dvc.yaml").read_text()
    assert "path: models/export/fcn8s," in pipeline
    (project.folder / "dvc.yaml").write_text(
        pipeline.replace("path: models/export/fcn8s,", "path: models/export/fcn32s,")
    )
    project.commit()
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    project.run("git", *author, "tag", "-a", "fcn8s@v1.0.0", "-m", "the first")
    try:
        project.run("dvc", "artifacts", "get", ".", "fcn8s", "--out", "got")
        got, exported = (
            project.folder / folder / "model.onnx" for folder in ("got", "models/export/fcn32s")
        )
        assert got.read_bytes() == exported.read_bytes()
    finally:
        project.run("git", "tag", "-d", "fcn8s@v1.0.0")
        project.run("git", "reset", "--quiet", "--hard", "HEAD~1")


def test_the_card_brings_pictures_of_16_bits_to_what_the_network_reads(
    exported: Path, tmp_path: Path
):
    dataset = Dataset.load()
    dataset = dataset.model_copy(update={"source": dataset.source | {"greys": [100.0, 4095.0]}})
    network = heads.load_network(Path("models/fcn32s"))
    card = model_card(stage.describe("fcn32s", network, dataset, "test", ["onnx"]))
    values = np.random.default_rng(0).integers(0, 5000, (64, 64)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "photo.tif")
    read = card.split("```python\n")[1].partition("```")[0]
    program = f"{read}\nnp.save('found.npy', pictures)"
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    opened = Image.open(tmp_path / "photo.tif")
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy")[0], rgb(opened, (100, 4095)))
