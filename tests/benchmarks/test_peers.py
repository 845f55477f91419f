"""make benchmark-peers: what the peers are given, and how the trainings are shown."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.run import (
    BACKBONE,
    PEER,
    PIPELINE,
    Run,
    earlier,
    figure,
    made_from,
    measured,
    of_peers,
    of_pipeline,
    table,
    write,
    write_pictures,
)
from benchmarks.workspace import Cost
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from tests.conftest import Project

RUNS = [
    Run(PEER, "fpn, adamw", 1, 400.0, 2**32, 0.76),
    Run(PIPELINE, "fpn", 1, 40.0, 2**31, 0.77),
    Run(PIPELINE, "fpn", 2, 50.0, 2**30, 0.79),
    Run(PEER, "fpn, adamw", 2, 500.0, 2**31, 0.74),
]


def test_the_peers_get_the_pictures_of_the_records_and_their_masks(
    in_project: Project, tmp_path: Path
):
    dataset, path = Dataset.load(), tmp_path / "data.npz"
    masks = write_pictures(dataset, path)
    given = np.load(path)
    assert given["classes"] == len(dataset.classes)
    for split in dataset.shards:
        reader = PictureReader(dataset, split)
        for index in range(len(reader)):
            _, image, mask = reader[index]
            np.testing.assert_array_equal(given[f"{split}_x"][index], image)
            np.testing.assert_array_equal(given[f"{split}_y"][index], mask)
    np.testing.assert_array_equal(masks, given["test_y"])


def test_what_is_measured_already_is_not_run_again(in_project: Project, tmp_path: Path):
    params = in_project.params
    params["backbones"] = {"lite0": {"network": BACKBONE, "weights": "imagenet"}}
    variant = {"backbone": "lite0", "train": "head", "stride": 8, "parent": "lite0"}
    params["variants"] = {"fcn8s": variant}
    assert list(of_pipeline(params, 1, tmp_path, {"fcn8s"})) == []
    done, nowhere = {"fpn, adamw", "fpn, adamw, 3 epochs"}, Path("no/python")
    peers = ["fpn:adamw", "fpn:adamw:3"]
    assert list(of_peers(nowhere, peers, 1, Dataset.load(), tmp_path, done)) == []
    with pytest.raises(FileNotFoundError):
        list(of_peers(nowhere, ["fpn:adamw"], 2, Dataset.load(), tmp_path, set()))


def test_runs_that_other_settings_would_change_are_run_again(in_project: Project, tmp_path: Path):
    params, dataset, path = in_project.params, Dataset.load(), tmp_path / "peers.json"
    head = {"backbone": "vgg19", "train": "head", "stride": 8, "parent": "vgg19"}
    params["variants"] = {"fpn": head, "tuned": head | {"train": "network", "parent": "fpn"}}
    wanted = made_from(params, dataset)
    assert earlier(path, wanted) == []
    all_runs = [*RUNS, Run(PIPELINE, "tuned", 1, 60.0, 2**31, 0.8)]
    write(all_runs, params, dataset, tmp_path, "2 cores")
    assert earlier(path, wanted) == all_runs
    assert "On 2 cores. " in (tmp_path / "peers.md").read_text()
    # A variant beside changes no other's run, a change of a variant its own and its children's.
    params["variants"]["other"] = head
    assert earlier(path, made_from(params, dataset)) == all_runs
    params["variants"]["tuned"]["epochs"] = 6
    assert earlier(path, made_from(params, dataset)) == RUNS
    params["variants"]["fpn"] = head | {"stride": 16}
    of_peers = [run for run in RUNS if run.of == PEER]
    assert earlier(path, made_from(params, dataset)) == of_peers
    params["variants"]["fpn"] = head
    params["train"]["epochs"] += 1
    assert earlier(path, made_from(params, dataset)) == of_peers
    other = dataset.model_copy(update={"image_size": (1, 1)})
    assert earlier(path, made_from(params, other)) == []


def test_a_training_takes_all_of_its_processes():
    run = measured(PIPELINE, "fpn", 3, [Cost(1.5, 10), Cost(2.25, 30), Cost(1.0, 20)], 0.5)
    assert (run.seconds, run.peak_bytes, run.seed) == (4.8, 30, 3)


def test_the_table_has_means_over_the_seeds_how_far_they_are_apart_and_the_least_seconds():
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table(RUNS).splitlines()]
    assert rows[2:] == [
        [PIPELINE, "fpn", "0.7800", "0.7700 to 0.7900", "40", "2.0"],
        [PEER, "fpn, adamw", "0.7500", "0.7400 to 0.7600", "400", "4.0"],
    ]


def test_the_figure_shows_the_mean_of_the_seeds_and_how_far_they_are_apart():
    (axis,) = figure(RUNS).axes
    assert (axis.get_xlim()[0], axis.get_ylim()[0]) == (0, 0)
    points, ends = [], []
    for drawn in axis.containers:
        marker, caps, _ = drawn
        points.append(tuple(float(value[0]) for value in marker.get_data()))
        ends.append(sorted(float(cap.get_ydata()[0]) for cap in caps))
    assert points == [(40.0, pytest.approx(0.78)), (400.0, pytest.approx(0.75))]
    assert ends == [pytest.approx([0.77, 0.79]), pytest.approx([0.74, 0.76])]
