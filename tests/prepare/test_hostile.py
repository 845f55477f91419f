"""Files and names made to do harm: none does more than a clear error or a harmless name."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
import yaml
from markupsafe import escape
from PIL import Image

from stages.check.schema import read_all
from stages.compare import stage as compare
from stages.prepare import stage as prepare
from stages.prepare.decoding import decode_pair
from stages.prepare.settings import FolderSource, TfdsSource
from stages.shared.formats.pictures import BadPictureError, decode_picture
from stages.shared.networks import backbones
from stages.shared.results.predicted import Predicted
from stages.shared.runtime.errors import UserError
from tests.conftest import ROOT, Project, encoded, tiny_params, write_params

BACKBONE_FILES = (backbones.CONFIG_FILE, backbones.WEIGHTS_FILE)
NASTY = '<img src=x onerror=alert(1)> $(touch owned) `touch owned` "; touch owned; $x^{'


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def bomb(side: int) -> bytes:
    """A PNG of some kilobytes that decodes to side x side pixels of RGB."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1_000_000)
    chunks = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_a_picture_that_decodes_to_gigapixels_is_refused_before_it_does():
    small = encoded(np.zeros((4, 4), np.uint8), "PNG")
    assert len(bomb(60_000)) < 5_000
    with pytest.raises(BadPictureError, match=r"3600000000 pixels.*exceeds limit"):
        decode_picture(bomb(60_000))
    with pytest.raises(BadPictureError, match=r"the mask does not decode: .* exceeds limit"):
        decode_pair(small, bomb(60_000))


def test_text_in_a_picture_that_swells_is_refused():
    swelling = png_chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 200_000_000))
    picture = encoded(np.zeros((4, 4, 3), np.uint8), "PNG")
    with pytest.raises(BadPictureError, match="does not decode"):
        decode_picture(picture[:33] + swelling + picture[33:])


def test_postscript_is_no_picture():
    """Pillow would hand it to Ghostscript, for it is a program."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(BadPictureError, match="is not an image in a known format"):
        decode_picture(program)


def test_an_archive_writes_nothing_outside_its_folder(tmp_path: Path, monkeypatch):
    """TFDS unpacks the archives, with the checksums that it expects set to those of ours."""
    archives, outside = tmp_path / "archives", tmp_path / "outside"
    archives.mkdir()
    outside.mkdir()
    picture = encoded(np.zeros((40, 40, 3), np.uint8), "PNG")
    names = {
        "../../../../outside/up": None,
        str(outside / "absolute"): None,
        "images/door": str(outside),
        "images/door/linked": None,
        "images/../../../outside/hidden": None,
    }
    for file in ("images.tar.gz", "annotations.tar.gz"):
        with tarfile.open(archives / file, "w:gz") as archive:
            for name, link in names.items():
                info = tarfile.TarInfo(name)
                if link:
                    info.type, info.linkname = tarfile.SYMTYPE, link
                    archive.addfile(info)
                else:
                    info.size = len(picture)
                    archive.addfile(info, io.BytesIO(picture))
    builder = tfds.builder_cls("oxford_iiit_pet")
    checksums = {
        url: tfds.core.download.checksums.compute_url_info(archives / str(info.filename))
        for url, info in builder.url_infos.items()
    }
    monkeypatch.setattr(builder, "url_infos", checksums)
    pets = yaml.safe_load((ROOT / "profiles/pets.yaml").read_text())["dataset"]
    folders = {"data_dir": str(tmp_path / "tfds"), "manual_dir": str(archives)}
    settings = TfdsSource.model_validate(pets | folders | {"root": str(archives)})
    # It holds no list of pictures, so TFDS ends with an error, once it has unpacked it.
    with pytest.raises((UserError, FileNotFoundError)):
        prepare.SOURCES["tfds"].examples(settings, 0)
    unpacked = [path for path in (tmp_path / "tfds").rglob("*") if path.is_symlink()]
    assert not unpacked
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system", "!x 1"]
)
def test_a_tag_in_params_yaml_is_refused_and_nothing_runs(tag: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"seed: {tag}\n")
    with pytest.raises(UserError, match=r"params\.yaml is not readable as YAML: could not determ"):
        read_all()
    assert not Path("owned").exists()


def test_aliases_in_params_yaml_that_swell_end_in_a_short_sentence(tmp_path: Path):
    """Ten lists of ten lists of ten lists ...: ten billion entries in a kilobyte."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    for key in ("seed", "variants", "dataset", "train"):
        path = tmp_path / f"{key}.yaml"
        other = {k: v for k, v in tiny_params().items() if k != key}
        path.write_text("\n".join([*lines, yaml.safe_dump(other), f"{key}: *a9"]))
        with pytest.raises(UserError) as error:
            read_all(path)
        assert len(str(error.value)) < 5_000


@pytest.fixture
def nasty_folder(tmp_path: Path, monkeypatch) -> FolderSource:
    """Pictures and classes whose names are HTML, shell commands and mathematics."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        Path("root", part).mkdir(parents=True)
    for number in range(9):
        name = f"{number} {NASTY.replace('/', '')}.png"
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(f"root/images/{name}")
        Image.fromarray(rng.integers(0, 2, (40, 40), np.uint8)).save(f"root/masks/{name}")
    return FolderSource.model_validate(
        {
            "source": "folder",
            "root": "root",
            "pictures": "images/*.png",
            "masks": "masks/*.png",
            "splits": {"by": "fraction", "train": 0.4, "validation": 0.3, "test": 0.3},
            "classes": {0: NASTY, 1: "_hidden"},
            "image_size": 32,
            "shard_size": 4,
            "bad_pictures": "stop",
        }
    )


def test_names_are_text_wherever_they_are_shown(nasty_folder: FolderSource, monkeypatch):
    write_params(nasty_folder, seed=0)
    prepare.prepare()
    page = Path("reports/dataset/index.html").read_text(encoding="utf-8")
    assert escape(NASTY) in page
    assert "<img src=x" not in page

    picture = np.zeros((32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    shown = Predicted(NASTY, picture, mask, {"fcn8s": mask})
    figure = compare.side_by_side(shown, [NASTY, "_hidden"], 0.5)
    compare.save(figure, Path("picture.png"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [NASTY, "_hidden"]
    assert not Path("owned").exists()


def test_a_variant_s_name_never_reaches_a_shell(fresh_project: Project):
    """Not even by a command that leaves out `check`."""
    names = ["x; touch owned", "$(touch owned)", "`touch owned`", "'; touch owned; '"]
    variant = {"backbone": "vgg19", "train": "head", "stride": 32, "parent": "vgg19"}
    changed = fresh_project.params | {"variants": dict.fromkeys(names, variant)}
    changed["export"]["variants"] = names
    (fresh_project.folder / "params.yaml").write_text(yaml.safe_dump(changed))
    # With all that the stage depends on in place, nothing but its command line is in the way.
    for file in ("data/dataset.json", *(f"models/vgg19/{name}" for name in BACKBONE_FILES)):
        path = fresh_project.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for folder in ("data/records", "data/features/vgg19/head"):
        (fresh_project.folder / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        done = fresh_project.run("dvc", "repro", "--single-item", f"train@{name}", check=False)
        assert "Running stage" in done.stdout
    assert not list(fresh_project.folder.rglob("owned"))
