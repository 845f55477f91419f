"""benchmarks.folder: what is drawn, and how the seconds are shown."""

from pathlib import Path

import pytest

from benchmarks import folder
from commands.new.command import described
from stages.prepare.sources import demo
from tests.conftest import CAMPAIGN

FOUND = {
    "device": "a machine",
    "pictures": 1000,
    "make new": 4.25,
    "dvc repro": 200.5,
    "mean_iou": {"mlp": 0.8651},
    "stages": {"prepare": 5.0, "train@mlp": 80.25},
}


def test_make_new_finds_what_is_drawn(tmp_path: Path):
    folder.draw(tmp_path / "pictures", 12)
    dataset, _ = described(tmp_path / "pictures")
    assert (dataset["pictures"], dataset["masks"]) == ("images/*.jpg", "masks/*.png")
    assert list(dataset["classes"].values()) == list(demo.CLASSES)
    assert dataset["fit"] == "pad"


def test_commands_and_stages_have_their_seconds():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in folder.table(FOUND).splitlines()
    ]
    assert ["`make new`", "4.2", ""] in rows
    assert ["`train@mlp`", "", "80.2"] in rows
    assert ["both", "205", ""] in rows
    assert "mlp 0.865" in folder.table(FOUND)


@pytest.mark.campaign
@pytest.mark.skipif(not CAMPAIGN, reason="it takes minutes")
def test_a_folder_becomes_a_result(tmp_path: Path):
    found = folder.measure(tmp_path / "project", 40, epochs=2)
    trained = (tmp_path / f"project/reports/{name}/history.csv" for name in found["mean_iou"])
    # Under the header, before the first epoch, and after each.
    assert all(len(history.read_text().splitlines()) == 2 + 2 for history in trained)
    assert list(found["stages"])[-1] == "compare"
    assert set(found["mean_iou"]) == {"fcn32s", "fcn16s", "fcn8s", "mlp"}
