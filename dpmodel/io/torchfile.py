"""PyTorch's zip files (``.pt`` checkpoints, ``.pth`` TorchScript) without PyTorch, and as data only."""

import math
import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.files import damaged, expect_content, replacing
from dpmodel.io.pickled import Attributes, unpickle
from dpmodel.io.values import check_array, describe, from_bfloat16

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_ZIP = "a zip archive (PyTorch's .pt and .pth are)"
_PICKLE_LIMIT = 32 * 2**20  # bytes; names and settings, a large model with its optimizer has one
_COPY_LIMIT = 2**23  # bytes, beyond the size of the file, for tensors that repeat their storage


def read_torchfile(path: str | os.PathLike[str]) -> Any:
    """The object saved in a ``.pt`` or ``.pth`` file: dictionaries, lists, numbers, text and NumPy arrays.

    Objects of TorchScript classes become ``Attributes``, bfloat16 tensors become float32 (which is exact).  Nothing
    in the file is executed.  Raises FileError.
    """
    path = os.fspath(path)
    expect_content(path, (_ZIP,), "a PyTorch file (those older than PyTorch 1.6: save them again)")
    with damaged(path, "a PyTorch file"), zipfile.ZipFile(path) as archive:
        return _Archive(path, archive).load()


def script_state(module: Attributes) -> dict[str, np.ndarray]:
    """The tensors of a TorchScript module under the names ``state_dict()`` gives them."""
    state = {name: value for name, value in module.items() if isinstance(value, np.ndarray)}
    for name, child in module.items():
        if isinstance(child, Attributes):
            state |= {f"{name}.{inner}": value for inner, value in script_state(child).items()}
    return state


class _Archive:
    def __init__(self, path: str, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self.left = os.path.getsize(path)
        self.left_for_copies = self.left + _COPY_LIMIT
        roots = [n[: -len("data.pkl")] for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise FileError(f"{path}: expected a PyTorch file (one data.pkl), found another kind of zip archive")
        self.root = roots[0]
        self.storages: dict[str, np.ndarray] = {}
        big = f"{self.root}byteorder" in archive.namelist() and self.record("byteorder", 6) == b"big"
        self.order: Any = ">" if big else "<"

    def load(self) -> Any:
        return unpickle(self.record("data.pkl", _PICKLE_LIMIT), f"{self.path}: data.pkl", self.find, self.storage)

    def record(self, name: str, limit: int) -> bytes:
        """The bytes of one member, its checksum checked, if there are at most ``limit`` and as PyTorch stores them."""
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or not info.file_size == info.compress_size <= limit:
            what = f"{info.file_size}, in {info.compress_size} of the file"
            raise FileError(f"{self.path}: {name}: expected at most {limit} uncompressed bytes, found {what}")
        return self.archive.read(info)

    def find(self, name: str) -> Any:
        module, _, attribute = name.partition(" ")
        if module.startswith("__torch__"):
            return lambda: Attributes()
        if module == "torch" and attribute in _STORAGES:
            return _Storage(_STORAGES[attribute])
        return self.tensor if name in _TENSORS else _FUNCTIONS.get(name)

    def storage(self, key: Any) -> np.ndarray:
        """The flat array behind a persistent id ``("storage", type, name, device, length)``."""
        _, kind, name, _, length = key
        if not isinstance(kind, _Storage) or not isinstance(name, str) or not isinstance(length, int):
            raise FileError(f"{self.path}: data.pkl: expected a storage, found {describe(key)}")
        if name not in self.storages:
            self.storages[name] = self.read_storage(kind.dtype, f"data/{name}", length)
        return self.storages[name]

    def read_storage(self, dtype: str, name: str, length: int) -> np.ndarray:
        raw = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder(self.order)
        info = self.archive.getinfo(self.root + name)
        need = length * raw.itemsize
        self.left -= need
        if not info.file_size == info.compress_size == need or self.left < 0:
            raise FileError(f"{self.path}: {name}: expected {need} uncompressed bytes for {length} of {dtype}, "
                            f"found {info.file_size}, or more tensors than bytes in the file")  # fmt: skip
        array = np.frombuffer(bytearray(self.record(name, need)), raw)
        array = array.astype(raw.newbyteorder("="), copy=False)
        return from_bfloat16(array) if dtype == "bfloat16" else array

    def tensor(self, storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """A tensor as its storage, shape and strides say, once they are seen to stay inside the storage."""
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers) or len(size) > 32:
            raise ValueError(f"no tensor has size {size} and stride {stride}")
        count = math.prod(size)
        if count == 0:
            return np.empty(size, storage.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= storage.size or count * storage.itemsize > self.left_for_copies:
            raise ValueError(f"size {size} with stride {stride} does not fit into a storage of {storage.size}")
        strides = [step * storage.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(storage[offset:], size, strides)
        if view.flags.c_contiguous:
            return view
        self.left_for_copies -= view.nbytes
        return view.copy()


class _Storage:
    """A storage class of PyTorch: it is named in a file, never called."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


def _empty() -> dict[Any, Any]:
    return {}


def _first(value: Any, *_: Any) -> Any:
    return value


_TENSORS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
_LISTS = tuple(f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor"))
_TRANSPARENT = ("torch Size", "torch._utils _rebuild_parameter", "torch.jit._pickle restore_type_tag", *_LISTS)
# None of them copies: a short pickle could ask for many copies of a long list.
_FUNCTIONS: dict[str, Callable[..., Any]] = {"collections OrderedDict": _empty} | dict.fromkeys(_TRANSPARENT, _first)


def write_checkpoint(path: str | os.PathLike[str], tree: Any) -> None:
    """Write dictionaries, lists, plain values and arrays as a file that ``torch.load(weights_only=True)`` reads."""
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        writer = _Writer(os.fspath(path))
        writer.value(tree, "")
        pickle = b"\x80\x02" + b"".join(writer.parts) + b"."
        for name, data in (("data.pkl", pickle), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
        for i, array in enumerate(writer.arrays):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{i}"), array.tobytes())


class _Writer:
    """Protocol 2 by hand: the real pickler would need PyTorch's functions to name them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parts: list[bytes] = []
        self.arrays: list[np.ndarray] = []

    def value(self, value: Any, where: str) -> None:
        if isinstance(value, np.ndarray):
            self.parts.append(self.tensor(value, where))
        elif isinstance(value, dict):
            self.parts.append(b"}(")
            for key, member in value.items():
                self.value(key, where)
                self.value(member, f"{where}/{key}")
            self.parts.append(b"u")
        elif isinstance(value, list | tuple):
            start, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
            self.parts.append(start)
            for i, member in enumerate(value):
                self.value(member, f"{where}/{i}")
            self.parts.append(end)
        elif (
            value is None or type(value) in (bool, float, str) or (type(value) is int and value.bit_length() < 8 * 255)
        ):
            self.parts.append(_plain(value))
        else:
            raise FileError(f"{self.path}: {where}: expected plain values and arrays, found {describe(value)}")

    def tensor(self, array: np.ndarray, where: str) -> bytes:
        array = check_array(array, f"{self.path}: {where}")
        kinds = [kind for kind, dtype in _STORAGES.items() if dtype == array.dtype.name]
        if not kinds:
            raise FileError(f"{self.path}: {where}: PyTorch has no storage for {array.dtype}")
        key = str(len(self.arrays))
        self.arrays.append(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False))
        strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
        storage = b"(%bctorch\n%b\n%b%b%btQ" % (
            _plain("storage"), kinds[0].encode(), _plain(key), _plain("cpu"), _plain(array.size),
        )  # fmt: skip
        return b"ctorch._utils\n_rebuild_tensor_v2\n(%bK\x00%b%b\x89ccollections\nOrderedDict\n)RtR" % (
            storage, _integers(array.shape), _integers(strides),
        )  # fmt: skip


def _integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_plain, values)) + b"t"


def _plain(value: str | int | float | bool | None) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
