"""Where a stage stands: the order of `dvc repro`, and how long the stages after it took."""

from pathlib import Path

import pytest
import yaml

from stages.shared.runtime import place, seconds
from tests.conftest import Project, stages_run

PIPELINE = """
stages:
  check: {cmd: check}
  train: {foreach: "${variants}", do: {cmd: train}}
  export: {foreach: "${export.variants}", do: {cmd: export}}
  compare: {cmd: compare}
"""
PARAMS = """
variants:
  finest: {parent: fine}
  fine: {parent: coarse}
  coarse: {parent: vgg19}
export: {variants: [fine]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text(PARAMS)
    return tmp_path


def test_a_stage_is_counted_among_all(folder: Path):
    assert place.told("train@coarse") == "stage 2 of 6"
    assert place.told("train@finest") == "stage 4 of 6"
    assert place.told("train@another") == ""


def test_nothing_is_said_of_a_pipeline_that_cannot_be_read(folder: Path):
    Path("params.yaml").write_bytes("name: Gr\u00fcn".encode("latin-1"))
    assert place.told("train@coarse") == ""


def test_a_time_that_cannot_be_read_is_not_known(folder: Path):
    seconds.note("compare", 8)
    Path("reports/seconds/compare.json").write_text("<<<<<<< HEAD")
    assert place.told("export@fine") == "stage 5 of 6"


def test_what_follows_takes_what_it_took_or_what_others_of_its_kind_did(folder: Path):
    for stage, took in {"check": 1, "train@coarse": 20, "train@fine": 40, "compare": 8}.items():
        seconds.note(stage, took)
    assert place.told("train@coarse") == "stage 2 of 6"
    seconds.note("export@fine", 100)
    # 40 + (20 + 40) / 2 + 100 + 8
    assert place.told("train@coarse") == "stage 2 of 6; those that follow took 3 min the last time"
    assert place.told("export@fine") == "stage 5 of 6; those that follow took 8 s the last time"
    assert place.told("compare") == "stage 6 of 6"


@pytest.mark.parametrize(
    ("taken", "shown"), [(0.4, "0 s"), (59, "59 s"), (89, "1 min"), (3600, "1 h 0 min")]
)
def test_a_duration_is_shown_as_one_says_it(taken: float, shown: str):
    assert place.duration(taken) == shown


def test_the_order_is_that_of_dvc(built_project: Project):
    printed = built_project.run("dvc", "repro", "--force", "--dry").stdout
    ordered = place.names(
        yaml.safe_load((built_project.folder / "dvc.yaml").read_text()),
        built_project.params,
    )
    assert ordered == stages_run(printed)
