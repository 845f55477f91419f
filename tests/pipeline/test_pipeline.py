"""The real `dvc` on a tiny copy of the project: what it shows, and what survives a mistake."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Project, tiny_params

MEASURES = {
    "loss",
    "pixel_accuracy",
    "mean_accuracy",
    "mean_iou",
    "frequency_weighted_iou",
    "parameters",
    "gflop",
    "feature_bytes",
    "passes",
    "iou",
}
EPOCHS = {
    "epoch",
    "train_loss",
    "val_loss",
    "val_mean_iou",
    "best_epoch",
    "best_val_mean_iou",
    "val_mean_iou_gain",
}


def test_metrics_and_plots_show_right_after_a_clone(project: Project, tmp_path: Path):
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    metrics = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)
    shown = metrics[""]["data"]
    variants = ("fcn16s", "fcn32s", "fcn8s-finetuned", "fcn8s")
    expected = {"metrics.json": MEASURES, "training.json": EPOCHS}
    keys = {f"reports/{v}/{file}": keys for v in variants for file, keys in expected.items()}
    # DVC shows no null: what is fine-tuned reads pictures.
    keys["reports/fcn8s-finetuned/metrics.json"] = MEASURES - {"feature_bytes"}
    assert {path: set(values["data"]) for path, values in shown.items()} == keys
    assert plots_page(clone, "show").exists()


def test_metrics_diff_and_plots_after_a_change(project: Project):
    project.set_params({"variants.fcn8s.learning_rate": 0.05})
    project.run("dvc", "repro", "evaluate@fcn8s")
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(changed) == {"reports/fcn8s/metrics.json", "reports/fcn8s/training.json"}
    assert changed["reports/fcn8s/metrics.json"]["loss"]["diff"] != 0
    for command in ("show", "diff"):
        page = plots_page(project, command).read_text()
        for title in (
            "Validation mean IoU by epoch",
            "IoU by class and variant",
            "fcn8s, share of",
        ):
            assert title in page
        assert page.count("vegaEmbed(") == 13
        assert "picture-1.png" in page
    assert '"rev": "workspace"' in page
    assert '"rev": "HEAD"' in page


def plots_page(project: Project, command: str) -> Path:
    """The page that `dvc plots show` or `diff` writes."""
    done = project.run("dvc", "plots", command, "--out", "page")
    assert "index.html" in done.stdout
    return project.folder / "page/index.html"


FOLDER = {
    "source": "folder",
    "root": "data/archives",
    "pictures": ".gitignore",
    "masks": "*.png",
    "splits": {"by": "fraction", "train": 0.5, "validation": 0.2, "test": 0.3},
    "classes": ["ground", "disc"],
    "image_size": 64,
    "shard_size": 4,
    "bad_pictures": "stop",
}
HEAD = {"backbone": "vgg19", "train": "head", "stride": 8, "parent": "fcn16s"}
MISTAKES = {
    "misspelt key": (
        {"train.epoch": 3},
        "train.epoch is not a key of the pipeline; did you mean ep",
    ),
    "unknown top-level key": (
        {"trian": 3},
        "trian is not a key of the pipeline; did you mean train?",
    ),
    "no such parent": ({"variants.fcn8s.parent": "fcn4s"}, "variants.fcn8s.parent is 'fcn4s'"),
    "no such folder": (
        {"dataset.root": "data/picture"},
        "dataset.root is 'data/picture', which is not",
    ),
    "a pattern that finds nothing": (
        {"dataset": FOLDER | {"masks": "annotations/*.png"}},
        "dataset.masks is 'annotations/*.png', which matches no file in data/archives/",
    ),
    "a weight of no class": (
        {"train.class_weights": {"disk": 2.0}},
        "train.class_weights names 'disk', which is not a class; the classes are ground, disc",
    ),
    "a weight of no class of a variant": (
        {"variants.fcn8s.class_weights": {"disk": 2.0}},
        "variants.fcn8s.class_weights names 'disk', which is not a class",
    ),
    "infinite rate": ({"train.learning_rate": float("inf")}, "train.learning_rate is inf"),
    "a name for the shell": (
        {"variants.x; touch owned": HEAD},
        "variants.x; touch owned",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_dvc_repro_and_leaves_every_output(mistake: str, project: Project):
    changes, message = MISTAKES[mistake]
    before = project.digests("models", "reports", "data/records", "data/features")
    project.set_params(changes)
    done = project.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert f"error: params.yaml: {message}" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert project.digests("models", "reports", "data/records", "data/features") == before
    assert not (project.folder / "owned").exists()


def test_a_stage_that_fails_leaves_the_earlier_outputs_in_dvc_s_cache(project: Project):
    before = project.digests("models", "reports")
    project.set_params({"variants.fcn8s.learning_rate": 1e38})
    done = project.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "the loss of fcn8s is no longer finite" in done.stderr
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "checkout", "--quiet")
    assert project.digests("models", "reports") == before
    assert project.repro() == []


STAGES = [
    "prepare",
    "backbone vgg19",
    "features vgg19",
    "train fcn16s",
    "train fcn8s-finetuned",
    "evaluate fcn16s",
    "evaluate fcn8s-finetuned",
    "compare",
    "export fcn32s",
]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_function_of_its_deps_and_params_alone(stage: str, project: Project, tmp_path):
    """With nothing else there it writes the same bytes, and writes nothing else."""
    name, *variant = stage.split()
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    entry = lock["@".join([name, *variant])]
    alone = Project(tmp_path / "alone")
    # No stage depends on what runs it.
    for path in ("stages/shared/runtime", *(dep["path"] for dep in entry["deps"])):
        source, target = project.folder / path, alone.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    declared = entry["params"]["params.yaml"]
    params: dict = {}
    for key, value in declared.items():
        section, *entry_name = key.split(".", 1)
        if entry_name:
            params.setdefault(section, {})[entry_name[0]] = value
        else:
            params[section] = value
    (alone.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    given = set(alone.digests("."))

    # The order of a set does not decide either.
    other = {"DVC_STAGE": "@".join([name, *variant]), "PYTHONHASHSEED": "0"}
    alone.run("sh", "-c", entry["cmd"], **other)
    outs = [out["path"] for out in entry["outs"]]
    written = {p: d for p, d in alone.digests(".").items() if "__pycache__" not in p}
    new = {path: digest for path, digest in written.items() if path not in given}
    # What is noted of the packages, and the lock for that, are beside the outputs.
    del new["reports/packages.json"], new[".dvc/tmp/packages.lock"]
    assert new == project.digests(*outs)
    noted = json.loads((alone.folder / "reports/packages.json").read_text())
    assert list(noted) == ["@".join([name, *variant])]


def test_large_outputs_are_not_stored_twice(project: Project):
    """What lies in the workspace is a link to what DVC keeps in its cache."""
    for folder in ("data/records", "data/features/vgg19", "models/vgg19", "models/fcn8s"):
        for path in (p for p in (project.folder / folder).rglob("*") if p.is_file()):
            assert path.stat().st_nlink > 1


def test_the_tiny_project_runs_the_committed_pipeline():
    assert set(tiny_params()) == set(yaml.safe_load((ROOT / "params.yaml").read_text()))
