"""`make soak`, as small as it gets, and the arithmetic that its figures come from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak import Bars, Cost, Point, Sample, Watched
from tests.conftest import CAMPAIGN, ROOT

PICTURES, FILES = (1200, 160) if CAMPAIGN else (160, 24)
# Speed doubles half way through 1,000 pictures: 50 a second, then 100.
FASTER = [Point(5, 100), Point(15, 600), Point(20, 1100)]
# With each step of its work, a file and 16 MiB more.
LEAK = """
import sys, time
from tqdm import trange
kept = [sys.stderr]
for _ in trange(20, desc="leak", unit="batch"):
    kept += [open("/dev/null"), bytearray(b"." * (16 << 20))]
    time.sleep(0.12)
"""


@pytest.mark.campaign
def test_it_watches_every_process_and_writes_both_tables(tmp_path: Path):
    sizes = (f"--pictures={PICTURES}", f"--files={FILES}", "--shard-size=8", "--batch-size=1")
    command = (*sizes, "--variants", "fcn32s", f"--out={tmp_path}", f"--scratch={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "soak.json").read_text())
    page = (tmp_path / "soak.md").read_text()
    assert done.stdout.strip() == page.strip()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soak.json", "soak.md"]

    names = ["prepare", "features@vgg19", "train@fcn32s", "predict"]
    assert [found["stage"] for found in results["stages"]] == names
    pictures = {found["stage"]: found["pictures"] for found in results["stages"]}
    assert pictures.pop("train@fcn32s") == 0.8 * PICTURES
    assert pictures == {"prepare": PICTURES, "features@vgg19": PICTURES, "predict": FILES}
    for found in results["stages"]:
        seconds, speed = found["seconds"], found["pictures_a_second"]
        assert 0 < seconds["first_progress"] < seconds["last_progress"] < seconds["all"]
        assert min(speed.values()) > 0
        assert min(found["processor_ms_a_picture"].values()) > 0
        worked = seconds["last_progress"] - seconds["first_progress"]
        assert 0 < speed["all"] * worked < found["pictures"]
        resident, descriptors = found["resident_bytes"], found["descriptors"]
        # Python and NumPy alone take more.
        assert min(resident["second_tenth"], resident["last_tenth"]) > 3e7
        assert max(resident["second_tenth"], resident["last_tenth"]) < 1.01 * resident["peak"]
        assert min(descriptors.values()) >= 3 and max(descriptors.values()) < 200
        rows = [line for line in page.splitlines() if line.startswith(f"| {found['stage']} |")]
        assert len(rows) == 2
        assert f"| {speed['last_to_first']:.3f} |" in rows[0]
        assert f"| {resident['growth']:+.1%} |" in rows[1]


def test_a_process_that_leaks_is_seen_to_leak(tmp_path: Path):
    watched = soak.watch([sys.executable, "-c", LEAK], "leak", tmp_path, batch_size=1)
    found = soak.figures(watched)
    # The 19 steps that follow the first progress; the last tenth comes 8 tenths after the second.
    steps = 0.8 * 19
    grown = found["resident_bytes"]["last_tenth"] - found["resident_bytes"]["second_tenth"]
    assert grown == pytest.approx(steps * (16 << 20), rel=0.2)
    descriptors = found["descriptors"]
    assert descriptors["last_tenth"] - descriptors["second_tenth"] == pytest.approx(steps, abs=3)
    assert 1 < found["pictures_a_second"]["all"] < 1.05 / 0.12


def test_a_process_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture):
    program = "import os, sys; sys.exit('error: ' + os.environ['DVC_STAGE'] + ' is broken')"
    with pytest.raises(subprocess.CalledProcessError):
        soak.watch([sys.executable, "-c", program], "train@fcn8s", tmp_path, batch_size=1)
    assert "error: train@fcn8s is broken" in capsys.readouterr().err


def test_bars_that_follow_one_another_add_up():
    bars = Bars(batch_size=1)
    printed = (
        "\rfeatures train:   0%|          | 0/32 [00:00<?, ?picture/s]",
        "\rfeatures train:  50%|█████     | 16/32 [00:00<00:57, 55.25pic",
        "ture/s]",
        "\rfeatures train: 100%|██████████| 32/32 [00:00<00:00, 55.25picture/s]\n",
        "\rprepare test: 0picture [00:00, ?picture/s]",
        "\rprepare test: 8picture [00:01,  1.2s/picture]\nerror: 12/40 [of what is no bar]\n",
    )
    for second, piece in enumerate(printed):
        bars.read(second, piece)
    assert bars.points == [(2, 16), (3, 32), (5, 40)]


def test_batches_count_as_so_many_pictures_in_each_epoch():
    bars = Bars(batch_size=64)
    bars.read(1, "\rfcn8s:   0%|          | 0/1250 [00:00<?, ?batch/s]")
    bars.read(2, "\rfcn8s: epoch 1/2:   0%|          | 5/1250 [00:00<00:01, 9.1batch/s]")
    bars.read(3, "\rfcn8s: epoch 1/2:  98%|#########8| 1230/1250 [00:06<00:00, 290batch/s]")
    bars.read(4, "\rfcn8s: epoch 2/2:   1%|          | 10/1250 [00:00<00:01, 9batch/s, IoU 3.0%]")
    assert bars.points == [(2, 5 * 64), (3, 1230 * 64), (4, 1240 * 64)]


def test_rates_are_of_shares_of_the_pictures():
    assert soak.moment(FASTER, 0.1) == pytest.approx(7)
    assert soak.moment(FASTER, 0.5) == pytest.approx(15)
    assert soak.moment(FASTER, 0.95) == pytest.approx(19.5)
    assert soak.rate(FASTER, 0.0, 0.1) == pytest.approx(50)
    assert soak.rate(FASTER, 0.9, 1.0) == pytest.approx(100)
    assert soak.rate(FASTER) == pytest.approx(1000 / 15)


def test_figures_compare_the_second_tenth_with_the_last():
    # The second tenth is the seconds 7 to 9, the last 19 to 20; outside them all is large.
    inside = {7: (10, 4), 8: (30, 9), 9: (20, 5), 19: (24, 8), 20: (26, 6)}
    # Both cores from second 18 on, one before.
    samples = [
        Sample(second, *inside.get(second, (999, 99)), second + max(0, second - 18))
        for second in range(30)
    ]
    found = soak.figures(Watched(Cost(29.0, 1000), FASTER, samples))
    assert found["pictures"] == 1100
    assert found["seconds"] == {"all": 29, "first_progress": 5, "last_progress": 20}
    assert found["pictures_a_second"]["last_to_first"] == pytest.approx(2)
    resident = found["resident_bytes"]
    assert (resident["peak"], resident["second_tenth"], resident["last_tenth"]) == (1000, 20, 25)
    assert resident["growth"] == pytest.approx(0.25)
    assert found["descriptors"] == {"second_tenth": 9, "last_tenth": 8}
    # 100 pictures in 2 s of one core, then in 1 s of two.
    assert found["processor_ms_a_picture"] == pytest.approx({"first_tenth": 20, "last_tenth": 20})


def test_a_part_without_a_sample_has_the_nearest():
    samples = [Sample(second, second, 3, 0) for second in (1, 6, 12)]
    assert soak.within(samples, FASTER, 0.1, 0.2) == [(6, 6, 3, 0)]
