"""benchmarks.host: what the processors supply, and the forecast from it."""

import json

import pytest

from benchmarks import host
from benchmarks.host import Accelerator

FOUND = {
    "device": "a machine",
    "cores": 2,
    "gflop": 40.0,
    "head_gflop": 0.004,
    "starting": 50.0,
    "pictures_a_second": {
        "prepare": 400.0,
        "features": 900.0,
        "activations": 6000.0,
        "read": 5000.0,
        "augmented": 700.0,
        "step": 3000.0,
    },
}


def test_every_part_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "TRAIN", 64)
    found = host.measure(pictures=40)
    assert all(rate > 0 for rate in found["pictures_a_second"].values())
    assert found["gflop"] == pytest.approx(50.7, abs=0.1)
    assert json.loads(json.dumps(found)) == found
    text = host.table(found) + host.forecast(found | {"starting": 50.0})
    for accelerator in host.ACCELERATORS:
        assert f"{accelerator} asks for" in text
    assert "A forecast, not a measurement" in text


def test_an_accelerator_asks_for_what_its_arithmetic_takes():
    """100 TFLOP/s at 40% are a thousand pictures of 40 GFLOP, a third of that with a gradient."""
    rows = {}
    for line in host.table(FOUND).splitlines():
        name, *cells = [cell.strip() for cell in line.split("|")[1:-1]] or [""]
        rows[name.split(":")[0].strip("`")] = cells
    assert rows["features"] == ["900", "650", "3,120", "9,890"]
    assert rows["a network's training, pictures read as they are needed"][1] == "217"


def test_a_forecast_takes_the_slower_of_the_host_and_the_accelerator():
    epochs = 3 * 20 * (3128 + 552)
    pictures = 3128 + 552 + 3669
    decode = 2 / (400 * 16)
    slow, fast = Accelerator(1.0), Accelerator(1000.0)
    notebook, pipeline, prepare = host.minutes_of(FOUND, slow)
    assert prepare == pytest.approx(pictures * decode / 60)
    assert notebook == pytest.approx(epochs * 0.1 / 60)
    assert pipeline == pytest.approx(prepare + (50 + pictures * 0.1 + epochs / 3000) / 60)
    notebook, pipeline, _ = host.minutes_of(FOUND, fast)
    assert notebook == pytest.approx(epochs * decode / 60)
    assert pipeline == pytest.approx(prepare + (50 + pictures / 900 + epochs / 3000) / 60)


def test_what_starting_takes_is_what_is_left_without_pictures():
    growth = [
        {"pictures": number, "seconds": {"features": 10 + number / 5, "train@a": 5 + number / 10}}
        for number in (100, 400, 800)
    ]
    assert host.starting(growth) == pytest.approx(15)
