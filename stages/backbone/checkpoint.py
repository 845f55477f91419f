"""PyTorch's checkpoints of before 2020, read without PyTorch.

The file is five pickles and then the numbers (`_legacy_save` of PyTorch's serialization.py): a
magic number, a version, facts of the machine, a dict of tensors by name, and the keys of their
storages; then, for each key, a count (int64) and so many numbers, little-endian.

A pickle is a program. This one may use the operations that PyTorch's writer uses, on values nested
no deeper than its own, which is checked before it runs, and may name an ordered dict, a tensor and
two kinds of storage; at any other name it ends.
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
# Of tuples in tuples: a tensor is made of a tuple with a tuple for its shape.
DEEPEST = 4
STORAGES: dict[str, np.dtype] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


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
            # A new one each time, for a pickle may set attributes of what it has named.
            return lambda *arguments: _tensor(*arguments)
        if module == "torch" and name in STORAGES:
            return name
        raise pickle.UnpicklingError(f"it names {module!r}.{name!r}, which no tensor takes")

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, from `("storage", dtype, key, device, count, view)`."""
        kind, dtype, key, *_ = pid
        found = STORAGES.get(dtype) if type(dtype) is str else None
        if kind != "storage" or found is None or type(key) is not str:
            raise pickle.UnpicklingError("it holds another object than a storage")
        return Storage(key, found)


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
            require_tensors(tensors, keys)
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
    require_harmless(file)
    file.seek(start)
    return Unpickler(file).load()


def require_harmless(file: BinaryIO) -> None:
    """Read over a pickle, and fail on what no checkpoint of tensors has.

    Raises:
        UnpicklingError: it has another operation, remembers more, or nests tuples deeper, whose
            hash would take for ever.
    """
    # Of each value on the unpickler's stack how deep it is; None: a mark.
    stack: list[int | None] = []
    memo: dict[Any, int] = {}
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name not in OPERATIONS:
            raise pickle.UnpicklingError(f"it has the operation {name}")
        if name.endswith("PUT"):
            if (argument or 0) > MOST_REMEMBERED:
                raise pickle.UnpicklingError("it remembers more than a checkpoint does")
            memo[argument] = stack[-1] or 0
            continue
        if name == "MARK":
            stack.append(None)
            continue
        taken: list[int] = []
        below = operation.stack_before
        if pickletools.markobject in below:
            while (depth := stack.pop()) is not None:
                taken.append(depth)
            below = below[: below.index(pickletools.markobject)]
        taken += [stack.pop() or 0 for _ in below]
        made = 0
        if name.startswith("TUPLE") or name == "REDUCE":
            made = 1 + max(taken, default=0)
        elif name.endswith("GET"):
            made = memo[argument]
        if made > DEEPEST:
            raise pickle.UnpicklingError("it nests tuples deeper than a checkpoint does")
        stack += [made for _ in operation.stack_after]


def require_tensors(tensors: Any, keys: Any) -> None:
    """Fail unless a checkpoint's values are tensors by name, and the keys of storages.

    Raises:
        UnpicklingError: they are something else.
    """
    if not isinstance(tensors, dict) or not isinstance(keys, list):
        raise pickle.UnpicklingError("it holds something else than a dict of tensors")
    if not all(type(key) is str for key in (*keys, *tensors)):
        raise pickle.UnpicklingError("it has a name that is not text")
    for tensor in tensors.values():
        whole = type(tensor) is Tensor and type(tensor.storage) is Storage
        sizes = (*tensor.shape, *tensor.strides, tensor.offset) if whole else ()
        if not whole or not all(type(size) is int for size in sizes):
            raise pickle.UnpicklingError("it holds something else than tensors")


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
