"""PyTorch's checkpoints of before 2020, read without PyTorch.

The file is five pickles and then the numbers (`_legacy_save` of PyTorch's serialization.py): a
magic number, a version, facts of the machine, a dict of tensors by name, and the keys of their
storages; then, for each key, a count (int64) and so many numbers, little-endian.

A pickle is a program. This one may name an ordered dict, a tensor and two kinds of storage, and use
the operations that PyTorch's writer uses; whatever else it holds is refused before any of it runs.
"""

import math
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from stages.shared.runtime.errors import UserError

PICKLES = 5
OPERATIONS = {
    *("PROTO", "GLOBAL", "REDUCE", "BUILD", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINPERSID"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
# Of what an operation remembers; the unpickler makes a table up to the highest.
MOST_REMEMBERED = 2**20
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class Storage(NamedTuple):
    """Numbers in the file, by their key."""

    key: str
    dtype: np.dtype


class Tensor(NamedTuple):
    """A view of a storage, from `offset` on; the strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unpickler(pickle.Unpickler):
    """Knows the four names that a dict of tensors takes."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names.

        Raises:
            UnpicklingError: it is none of the four.
        """
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor takes")

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, from `("storage", dtype, key, device, count, view)`."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("it holds another object than a storage")
        return Storage(key, dtype)


def _tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> Tensor:
    return Tensor(storage, offset, shape, strides)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, by name.

    Raises:
        UserError: the file is no such checkpoint, is damaged, or would run something else.
    """
    try:
        with path.open("rb") as file:
            *_, tensors, keys = [_unpickled(file) for _ in range(PICKLES)]
            kinds = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
            storages = {key: _numbers(file, kinds[key]) for key in keys}
        return {name: _array(storages, tensor) for name, tensor in tensors.items()}
    except Exception as error:
        # A damaged pickle raises whatever its unpickler stumbles over.
        raise UserError(
            f"{path} is not a checkpoint of PyTorch in the format of before 2020, or is damaged: "
            f"{str(error).partition(chr(10))[0]}"
        ) from None


def _unpickled(file: BinaryIO) -> Any:
    """The next pickle of a file, once all its operations are known to be harmless."""
    start = file.tell()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name not in OPERATIONS:
            raise pickle.UnpicklingError(f"it has the operation {operation.name}")
        if operation.name.endswith("PUT") and (argument or 0) > MOST_REMEMBERED:
            raise pickle.UnpicklingError("it remembers more than a checkpoint does")
    file.seek(start)
    return Unpickler(file).load()


def _numbers(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
    (count,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)


def _array(storages: dict[str, np.ndarray], tensor: Tensor) -> np.ndarray:
    """A tensor's numbers, (shape).

    Raises:
        ValueError: not all of them are in their storage.
    """
    numbers = storages[tensor.storage.key]
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * step for size, step in steps)
    if min(tensor.shape, default=1) < 1 or min(tensor.offset, *tensor.strides, last) < 0:
        raise ValueError("a tensor is empty, or has a negative offset or stride")
    if max(last + 1, math.prod(tensor.shape)) > len(numbers):
        raise ValueError("a tensor is larger than its storage")
    bytes_ = [step * numbers.itemsize for step in tensor.strides]
    return as_strided(numbers[tensor.offset :], tensor.shape, bytes_, writeable=False).copy()
