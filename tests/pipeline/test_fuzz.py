"""Whatever a file holds, its reader gives what it should or the project's own error."""

import json
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.backbone import checkpoint
from stages.check.schema import Params, read_all
from stages.features.encoding import Encoded, ShardWriter, encode
from stages.prepare.decoding import Labels, decode_pair
from stages.shared.formats import pictures
from stages.shared.formats.features import FeatureReader, Features, FeatureShard, Tap
from stages.shared.formats.pictures import BadPictureError
from stages.shared.records import shards
from stages.shared.records.dataset import Dataset, Shard
from stages.shared.records.shards import PictureReader, Record
from stages.shared.runtime.digests import digest
from stages.shared.runtime.errors import UserError
from stages.shared.settings.reading import read
from stages.shared.settings.section import SPLITS
from tests.conftest import CAMPAIGN, encoded, tiny_params

# The same examples each time, in a campaign more of them; a folder is emptied by the example that
# writes into it.
fuzz = settings(
    derandomize=True,
    deadline=None,
    max_examples=1000 if CAMPAIGN else 50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SIZE = (8, 8)
PICTURE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
MASK = np.random.default_rng(1).integers(0, 3, SIZE, np.uint8)
KINDS = ("PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG", "PPM", "TGA", "ICO", "PCX", "SGI")


@st.composite
def damaged(draw: Callable, whole: bytes) -> bytes:
    """A file with some bytes changed, left out, put in, or its end cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(("change", "remove", "insert", "cut"))):
            case "change" if content:
                content[place] = draw(st.integers(0, 255))
            case "remove":
                del content[place : place + draw(st.integers(1, 16))]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=16))
            case "cut":
                del content[place:]
    return bytes(content)


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: object, above: tuple = ()) -> list[tuple]:
    """Keys of everything in a nested mapping."""
    inner = value.items() if isinstance(value, dict) else ()
    return [(*above, key) for key, _ in inner] + [
        place for key, v in inner for place in places(v, (*above, key))
    ]


@pytest.mark.campaign
@fuzz
@given(place=st.sampled_from(places(tiny_params())), value=yaml_values)
def test_any_value_at_any_key_of_params_yaml(place: tuple, value: object, tmp_path: Path):
    changed = tiny_params()
    section = changed
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
    only_user_errors(lambda: read_all(path))
    only_user_errors(
        lambda: read(str(place[0]), get_type_hints(Params, include_extras=True)[place[0]], path)
    )


@pytest.mark.campaign
@fuzz
@given(content=st.binary(max_size=300) | damaged(yaml.safe_dump(tiny_params()).encode()))
def test_any_bytes_as_params_yaml(content: bytes, tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    only_user_errors(lambda: read_all(path))


@pytest.mark.campaign
@fuzz
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_damage_to_a_picture_or_its_mask(kind: str, data: st.DataObject):
    grey = kind not in ("WEBP", "JPEG")
    image = data.draw(damaged(encoded(PICTURE, kind)))
    mask = data.draw(damaged(encoded(MASK if grey else PICTURE, kind)))
    whole = encoded(MASK, "PNG")
    labels = Labels({0: "a", 1: "b", 2: None})
    for colours in (False, True):
        try:
            for pair in ((image, whole), (encoded(PICTURE, "PNG"), mask)):
                picture, values, _ = decode_pair(*pair, colours=colours, turn=True)
                assert picture.shape == (*values.shape, 3)
                if not colours:
                    labels.indices(values)
        except BadPictureError as error:
            assert str(error)


@pytest.mark.campaign
@fuzz
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_picture(content: bytes):
    with pytest.raises(BadPictureError):
        pictures.decode_picture(content)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of two records."""
    path = tmp_path_factory.mktemp("records") / "shard"
    shards.write(path, [Record("a", PICTURE, MASK), Record("b", PICTURE, MASK)])
    return path.read_bytes()


@pytest.mark.campaign
@fuzz
@given(data=st.data())
def test_any_damage_to_records_that_a_digest_does_not_tell(
    data: st.DataObject, shard: bytes, tmp_path: Path
):
    path = tmp_path / "shard"
    path.write_bytes(data.draw(damaged(shard) | st.binary(max_size=100)))
    described = Shard(file="shard", pictures=2, digest=digest(path))

    def read_in_order() -> None:
        for batch in shards.batches(described, SIZE, 2, tmp_path):
            assert batch.images.shape[1:] == (*SIZE, 3)

    def read_by_index() -> None:
        shards = {split: [described] for split in SPLITS}
        dataset = Dataset.model_construct(image_size=SIZE, classes=["a"], shards=shards)
        images, _ = PictureReader(dataset, "train", tmp_path).take(np.arange(2))
        assert images.shape == (2, *SIZE, 3)

    only_user_errors(read_in_order)
    only_user_errors(read_by_index)


@pytest.mark.campaign
@fuzz
@given(data=st.data())
def test_any_damage_to_features_that_a_digest_does_not_tell(data: st.DataObject, tmp_path: Path):
    writer = ShardWriter(tmp_path, "train", 0, 2)
    values = np.abs(np.random.default_rng(2).normal(size=(2, 1, 1, 3)).astype(np.float32))
    encoded = Encoded(*map(np.asarray, encode(values)))
    writer.append({"stride32": encoded}, np.stack([MASK, MASK]))
    names = list(writer.close())
    name = data.draw(st.sampled_from(names))
    (tmp_path / name).write_bytes(data.draw(damaged((tmp_path / name).read_bytes())))
    features = Features(
        records="",
        backbone_weights="",
        precision="float32",
        image_size=SIZE,
        classes=["a", "b", "c"],
        parameters=7,
        flop=9,
        taps={"stride32": Tap(shape=(1, 1, 3), mean=[0] * 3, deviation=[1] * 3)},
        shards={
            "train": [
                FeatureShard(number=0, pictures=2, files={n: digest(tmp_path / n) for n in names})
            ]
        },
    )
    reader = FeatureReader(tmp_path, features, "train", ["stride32"])
    only_user_errors(lambda: reader.take(np.arange(2)))


@pytest.mark.campaign
@fuzz
@given(data=st.data())
def test_any_damage_to_a_manifest(data: st.DataObject, tmp_path: Path):
    path = tmp_path / "features.json"
    features = Features(
        records="r",
        backbone_weights="b",
        precision="float32",
        image_size=SIZE,
        classes=["a", "b"],
        parameters=7,
        flop=9,
        taps={"stride32": Tap(shape=(1, 1, 1), mean=[0.5], deviation=[0.25])},
        shards={"train": []},
    )
    features.write(path)
    nested = st.integers(1, 100_000).map(lambda depth: b"[" * depth)
    other = yaml_values.map(lambda value: json.dumps(value, default=str).encode())
    path.write_bytes(data.draw(damaged(path.read_bytes()) | other | nested))
    try:
        assert Features.read(path) == features
    except UserError as error:
        assert "features.json" in str(error)


def legacy_checkpoint(state: object, keys: list[str], numbers: bytes) -> bytes:
    """A file as PyTorch wrote it before 2020: five pickles, and the numbers of each storage."""
    pickles = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, state, keys)
    return b"".join(pickle.dumps(p, protocol=2) for p in pickles) + numbers


class Hostile:
    """What a pickle of it runs when it is read."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, tuple]:
        function, *arguments = self.call
        return function, tuple(arguments)


HOSTILE = {
    "a command": Hostile(os.system, "touch owned"),
    "a class of this project": Hostile(Path, "owned"),
    "Python's own": Hostile(eval, "open('owned', 'w')"),
    "what the four names lead to": Hostile(getattr, OrderedDict, "fromkeys"),
}


@pytest.mark.parametrize("where", range(5), ids=("magic", "version", "system", "state", "keys"))
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_runs_nothing(kind: str, where: int, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickles: list[object] = [0x1950A86A20F9469CFC6C, 1001, {}, OrderedDict(), []]
    pickles[where] = HOSTILE[kind]
    path = tmp_path / "hostile.pth"
    path.write_bytes(b"".join(pickle.dumps(p, protocol=2) for p in pickles))
    with pytest.raises(UserError, match=r"hostile\.pth is not a checkpoint of PyTorch"):
        checkpoint.read(path)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_that_asks_for_all_memory_is_refused(tmp_path: Path):
    """By what it would remember, and by a tensor that repeats one number for ever."""
    path = tmp_path / "large.pth"
    remembers = b"\x80\x02Nr\xff\xff\xff\x7f."
    path.write_bytes(
        legacy_checkpoint(OrderedDict(), [], b"").replace(b"\x80\x02M\xe9\x03.", remembers)
    )
    with pytest.raises(UserError, match="remembers more than a checkpoint does"):
        checkpoint.read(path)
    path.write_bytes(tensor_file(shape=(1 << 40,), strides=(0,)))
    with pytest.raises(UserError, match="a tensor is larger than its storage"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    "nested",
    [b")" + b"\x85" * 1_000_000, b")" + b"q\x00h\x00\x86" * 60],
    ids=["deep", "doubled"],
)
def test_a_checkpoint_whose_names_would_take_for_ever_is_refused(nested: bytes, tmp_path: Path):
    """As a key of a dict, a tuple is hashed: in C, to any depth."""
    heads = b"".join(pickle.dumps(p, protocol=2) for p in (0x1950A86A20F9469CFC6C, 1001, {}))
    (tmp_path / "nested.pth").write_bytes(heads + b"\x80\x02}" + nested + b"K\x01s.")
    with pytest.raises(UserError, match="it nests tuples deeper than a checkpoint does"):
        checkpoint.read(tmp_path / "nested.pth")


def tensor_file(shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1)) -> bytes:
    """A checkpoint of the tensor `weight`, in a storage of the numbers 0 to 5."""
    state = (
        b"\x80\x02}X\x06\x00\x00\x00weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06NtQK\x00"
        + pickle.dumps(shape, protocol=2)[2:-1]
        + pickle.dumps(strides, protocol=2)[2:-1]
        + b"\x89}tRs."
    )
    heads = b"".join(pickle.dumps(p, protocol=2) for p in (0x1950A86A20F9469CFC6C, 1001, {}))
    numbers = struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()
    return heads + state + pickle.dumps(["0"], protocol=2) + numbers


@pytest.mark.parametrize(
    "shape, strides, expected",
    [((2, 3), (3, 1), [[0, 1, 2], [3, 4, 5]]), ((3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]])],
    ids=["row by row", "column by column"],
)
def test_a_checkpoint_s_tensor_is_read(shape, strides, expected, tmp_path: Path):
    (tmp_path / "whole.pth").write_bytes(tensor_file(shape, strides))
    np.testing.assert_array_equal(checkpoint.read(tmp_path / "whole.pth")["weight"], expected)


@pytest.mark.campaign
@fuzz
@given(content=damaged(tensor_file()) | st.binary(max_size=200))
def test_any_damage_to_a_checkpoint(content: bytes, tmp_path: Path):
    (tmp_path / "damaged.pth").write_bytes(content)
    only_user_errors(lambda: checkpoint.read(tmp_path / "damaged.pth"))


def only_user_errors(read: Callable[[], object]) -> None:
    """Read; a sentence for the user is all that may be raised."""
    try:
        read()
    except UserError as error:
        assert str(error)
