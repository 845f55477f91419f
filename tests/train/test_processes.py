"""One network trained by two processes, as on two machines, or by one on two devices, on Keras's
JAX backend."""

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.shared.runtime.errors import UserError
from stages.train import distribution
from tests.conftest import Project, free_port

NAME = "fcn8s-finetuned"
# Compiling takes longer than what is compiled.
QUICK = "--xla_backend_optimization_level=0"
JAX = {"KERAS_BACKEND": "jax", "XLA_FLAGS": QUICK}
# Two devices of this machine's processor in the place of GPUs.
ON_TWO_DEVICES = f"""
from stages.shared.networks import backend, devices
backend.configure()
devices.gpus = lambda: ["cpu:0", "cpu:1"]
from stages.train import fit, stage
class Noted(fit.Resident):
    def __init__(self, splits):
        super().__init__(splits)
        (array, *_) = self.arrays.values()
        print("resident on", len(array.value.devices()), "devices")
fit.Resident = Noted
stage.train({NAME!r})
"""
TWO_DEVICES = JAX | {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=2"}


@pytest.fixture
def checkouts(built_project: Project, tmp_path: Path) -> list[Project]:
    """Four checkouts of the built project, as far as training reads them."""
    projects = [Project(tmp_path / name) for name in ("first", "second", "devices", "single")]
    for project in projects:
        kept = shutil.ignore_patterns(".git", "cache", "export")
        shutil.copytree(built_project.folder, project.folder, ignore=kept)
        # Batches of 4 and 2 pictures, and of 3 when validating: shares must be filled up.
        project.set_params({f"variants.{NAME}.batch_size": 4, f"variants.{NAME}.epochs": 2})
    return projects


def together(number: int, port: int) -> dict[str, str]:
    """What tells Keras of two processes, and which of them it is in."""
    return {
        **JAX,
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
        distribution.PROCESSES: "2",
        distribution.PROCESS: str(number),
    }


def history(project: Project) -> list[dict[str, float]]:
    with (project.folder / f"reports/{NAME}/history.csv").open() as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


def weights(project: Project) -> np.ndarray:
    """All trained weights, in one row."""
    found: list[np.ndarray] = []
    for path in sorted((project.folder / "models" / NAME).rglob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda _, item: (
                    found.append(np.ravel(item)) if isinstance(item, h5py.Dataset) else None
                )
            )
    return np.concatenate(found)


def test_two_processes_or_two_devices_train_a_network_as_one_does(checkouts: list[Project]):
    pytest.importorskip("jax")
    *pair, devices, single = checkouts
    port, train = free_port(), ("python", "-m", "stages.train", NAME)
    running = [project.start(*train, **together(n, port)) for n, project in enumerate(pair)]
    ended = [(process.communicate()[1], process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    printed = devices.run("python", "-c", ON_TWO_DEVICES, **TWO_DEVICES).stdout
    assert "resident on 2 devices" in printed
    single.run(*train, **JAX)

    outs = (f"models/{NAME}", f"reports/{NAME}")
    assert pair[0].digests(*outs) == pair[1].digests(*outs)
    for several in (pair[0], devices):
        assert np.abs(weights(several) - weights(single)).max() < 1e-4
        for row, expected in zip(history(several), history(single), strict=True):
            # The batch that is filled up counts for more in the mean of the epoch's loss.
            for key in expected.keys() - {"loss", "val_loss"}:
                assert row[key] == pytest.approx(expected[key], abs=1e-3, nan_ok=True)
    assert history(single)[-1]["val_mean_iou"] != history(single)[0]["val_mean_iou"]


@pytest.mark.parametrize(
    ("name", "backend", "message"),
    [
        (NAME, "tensorflow", "several processes need JAX"),
        ("fcn8s", "jax", "fcn8s has train: head, which one process trains; unset it"),
    ],
)
def test_what_several_processes_can_t_train_is_said(
    name: str, backend: str, message: str, checkouts: list[Project]
):
    if backend == "jax":
        pytest.importorskip("jax")
    alone = {"KERAS_BACKEND": backend, distribution.PROCESSES: "2", distribution.PROCESS: "0"}
    done = checkouts[0].run("python", "-m", "stages.train", name, check=False, **alone)
    assert done.returncode == 1
    assert f"error: {distribution.PROCESSES} is 2" in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("number", "process", "message"),
    [
        ("two", "0", f"{distribution.PROCESSES} is 'two'; it should be a number"),
        ("", "0", f"{distribution.PROCESSES} is ''; it should be a number"),
        ("2", "2", f"{distribution.PROCESS} is 2 and {distribution.PROCESSES} 2; the first"),
    ],
)
def test_a_process_that_is_none_of_them_is_said(
    number: str, process: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(distribution.PROCESSES, number)
    monkeypatch.setenv(distribution.PROCESS, process)
    with pytest.raises(UserError, match=message):
        distribution.join()
