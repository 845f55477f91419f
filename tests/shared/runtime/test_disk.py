"""A full disk, for which a small tmpfs stands: what is said, and that nothing half-done is left."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stages.features import stage as features
from stages.features.encoding import ShardWriter
from stages.shared.networks.compiled import Compiled
from stages.shared.runtime import outputs
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import FEATURES_DIR
from stages.train import stage as train
from tests.conftest import Project

DISK_BYTES = 64 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk: Path, free: int) -> Path:
    """Fill a disk, but for some bytes; the file that fills it."""
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (shutil.disk_usage(disk).free - free))
    return filler


def layers() -> keras.Model:
    """A network of 4 MB."""
    return keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000)])


def write_records(path: Path) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(400):
            writer.write(os.urandom(10_000))


WRITERS: dict[str, Callable[[Path], object]] = {
    "records": write_records,
    "weights": lambda path: layers().save_weights(path.with_suffix(".weights.h5")),
    "state of a training": lambda path: np.savez(path, np.ones(1_000_000, np.float32)),
    "features": lambda path: path.open("wb").write(np.ones(4_000_000, np.uint8).data),
    "picture": lambda path: Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (1000, 1400, 3), np.uint8)
    ).save(path, "PNG"),
    "saved model": lambda path: tf.saved_model.save(layers(), str(path)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_while_a_file_is_written_is_told(kind: str, disk: Path, monkeypatch):
    monkeypatch.chdir(disk)
    leave(disk, free=1_000_000)
    out = Path("out")
    with pytest.raises(UserError) as error, outputs.writing(out) as staging:
        WRITERS[kind](staging.folder(out) / "file")
    said = str(error.value)
    assert said.startswith("the disk is full: out needs more than ")
    assert f"the disk of {disk} has " in said
    assert not out.exists()
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_features_that_will_not_fit_are_told_before_the_backbone_runs(
    in_project: Project, disk: Path, monkeypatch
):
    stored = sum(path.stat().st_size for path in FEATURES_DIR.glob("vgg19/head/*.npy"))
    shutil.rmtree(FEATURES_DIR)
    shutil.move("data", disk / "data")
    Path("data").symlink_to(disk / "data")
    free = stored // 2 // 4096 * 4096
    filler = leave(disk, free)
    monkeypatch.setattr(Compiled, "__call__", lambda *_: pytest.fail("the backbone ran"))
    with pytest.raises(UserError) as error:
        features.features("vgg19")
    said = (
        r"data/features/vgg19/head needs (\S+)kB more, .* has (\S+)kB free; "
        r"free some space and run `dvc repro` again"
    )
    need, told_free = map(float, re.fullmatch(said, str(error.value)).groups())
    # The headers of the files are not counted; the stage has a page or two of its own.
    assert 1000 * need == pytest.approx(stored, rel=0.1)
    assert 1000 * told_free == pytest.approx(free, abs=10_000)
    assert not (FEATURES_DIR / "vgg19" / "head").exists()

    monkeypatch.undo()
    monkeypatch.chdir(in_project.folder)
    filler.unlink()
    features.features("vgg19")
    assert sum(path.stat().st_size for path in FEATURES_DIR.glob("vgg19/head/*.npy")) == stored


def test_features_go_on_from_the_last_whole_shard_once_there_is_room(
    in_project: Project, disk: Path, monkeypatch
):
    before = in_project.digests("data/features/vgg19")
    shutil.move("data", disk / "data")
    Path("data").symlink_to(disk / "data")
    shutil.rmtree(FEATURES_DIR)
    computed = []
    close = ShardWriter.close

    def fill_after_the_first(writer: ShardWriter) -> dict[str, str]:
        computed.append((writer.split, writer.number))
        if len(computed) == 2:
            leave(disk, free=0)
        return close(writer)

    monkeypatch.setattr(ShardWriter, "close", fill_after_the_first)
    with pytest.raises(
        UserError, match=r"the disk is full: data/features/vgg19/head needs \S+B in all, \S+B"
    ):
        features.features("vgg19")
    (disk / "filler").unlink()
    features.features("vgg19")
    assert computed.count(("train", 0)) == 1
    assert in_project.digests("data/features/vgg19") == before


def test_a_training_that_will_not_fit_is_told_before_its_first_step(
    in_project: Project, disk: Path, monkeypatch
):
    shutil.move("models", disk / "models")
    Path("models").symlink_to(disk / "models")
    leave(disk, free=4096)
    monkeypatch.setattr(train, "fit", lambda *_: pytest.fail("it trained"))
    with pytest.raises(UserError, match=r"models/fcn8s-finetuned needs \S+MB more, and the disk"):
        train.train("fcn8s-finetuned")
    assert Path("models/fcn8s-finetuned/head.json").exists()
