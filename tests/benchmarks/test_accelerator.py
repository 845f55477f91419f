"""benchmarks.accelerator: what the stages are given, and how the results are shown."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import accelerator
from stages.check.schema import Params
from stages.prepare.sources import demo
from tests.conftest import CAMPAIGN

RATE = {
    "backend": "jax",
    "device": "a GPU",
    "precision": "mixed_bfloat16",
    "gflop_a_picture": 50.0,
    "matrix_tflops": 700.0,
    "features_pictures_a_second": 5600.0,
    "features_share_of_matrix_peak": 0.4,
    "training_pictures_a_second": 1400.0,
    "training_share_of_matrix_peak": 0.3,
    "heads": {"fcn8s": {"ms_a_picture_and_epoch": 0.0834}},
}
RUN = {
    "pictures": {"train": 3, "validation": 2, "test": 1},
    "seconds": {"check": 1.25, "train@fcn8s": 20.0},
    "repeated": {"fcn8s": True, "mlp": False},
}


def test_the_parameters_are_valid_and_have_the_notebook_s_heads_on_vgg19():
    params = Params.model_validate(accelerator.params())
    names = {stage[1] for stage in accelerator.stages() if len(stage) > 1}
    assert names == {*params.backbones, *params.variants}
    heads = [params.variants[name] for name in accelerator.NOTEBOOKS]
    assert [(head.backbone, head.stride) for head in heads] == [
        ("vgg19", 32),
        ("vgg19", 16),
        ("vgg19", 8),
    ]


def test_every_split_has_its_number_of_pictures_with_masks_and_no_picture_twice(tmp_path: Path):
    counts = {"train": 5, "validation": 1, "test": 3}
    accelerator.draw(tmp_path / "pictures", counts)
    seen = set()
    for split, pictures in counts.items():
        stems = (tmp_path / f"pictures/{split}.txt").read_text().split()
        assert len(stems) == pictures
        for stem in stems:
            picture, mask = (
                np.asarray(Image.open(tmp_path / f"pictures/{stem}.{kind}"))
                for kind in ("jpg", "png")
            )
            assert picture.shape == (*mask.shape, 3) == (375, 500, 3)
            assert mask.max() < len(demo.CLASSES)
            seen.add(picture.tobytes())
    assert len(seen) == sum(counts.values())


def test_rates_and_seconds_are_shown(tmp_path: Path):
    accelerator.write({"rates": {"vgg19": RATE}, "run": RUN}, tmp_path)
    text = (tmp_path / "accelerator.md").read_text()
    for row in (
        "| features: pictures a second | 5,600 |",
        "| training, augmented: share of the peak | 30% |",
        "| fcn8s: ms a picture and epoch | 0.083 |",
        "| `train@fcn8s` | 20.0 |",
        "| all of these | 21 |",
    ):
        assert row in text
    assert "`train@fcn8s`, run again, wrote the same bytes." in text
    assert "`train@mlp`, run again, wrote other bytes." in text
    assert json.loads((tmp_path / "accelerator.json").read_text())["run"] == RUN


@pytest.mark.campaign
@pytest.mark.skipif(not CAMPAIGN, reason="it takes minutes")
def test_the_stages_run_on_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    narrow = accelerator.params()
    narrow["backbones"]["vgg19"]["width"] = 1 / 16
    monkeypatch.setattr(accelerator, "params", lambda: narrow)
    *_, found = accelerator.run(tmp_path / "run", 0.002, "float32")
    assert list(found["seconds"])[-1] == "compare"
    assert found["repeated"] == {"fcn8s": True, "mlp": True}
