"""The ``.dp`` container: one JSON attribute and plain datasets in an HDF5 file (specification/serialization.md 1.2)."""

import hashlib
import json
import os
import re
from typing import Any, BinaryIO

import h5py
import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.hdf5_guard import check_heaps, expect_plain, member, opened
from dpmodel.io.tree import expect_mapping, map_leaves, parse_json
from dpmodel.io.values import check_array, describe, from_bfloat16, plain_value

_NAME = re.compile(r"/?variable_[0-9]{4,}")
_JSON = "json"
_CHECKSUM = "sha256"  # ours; deepmd-kit does not write it and does not mind it
_BFLOAT16 = np.dtype("V2")  # deepmd-kit 3.2 writes bfloat16 as two opaque bytes


def read_hdf5(path: str) -> dict[str, Any]:
    """The tree in the HDF5 file at ``path``, arrays as NumPy arrays.

    Nothing larger than the file itself is allocated: sizes are checked first, and links out of the file,
    virtual, chunked and compressed datasets are refused.
    """
    check_heaps(path, (_JSON, _CHECKSUM))
    with opened(path) as file:
        return _Reader(path, file).tree()


class _Reader:
    def __init__(self, path: str, file: h5py.File) -> None:
        self.path, self.file = path, file
        self.size = self.left = os.path.getsize(path)
        self.arrays: dict[str, np.ndarray] = {}

    def tree(self) -> dict[str, Any]:
        text = self._text(_JSON)
        tree = parse_json(text, f"{self.path}: attribute 'json'")
        tree = expect_mapping(map_leaves(tree, self._leaf, self.path), self.path)
        if _CHECKSUM in self.file.attrs and self._text(_CHECKSUM) != _checksum(text, self.arrays):
            raise FileError(f"{self.path}: contents differ from what was written (checksum); restore it from a copy")
        return tree

    def _text(self, name: str) -> str:
        """A root attribute that holds one string."""
        if name not in self.file.attrs:
            raise FileError(f"{self.path}: expected a model (root attribute {name!r}), found another kind of HDF5 file")
        attribute = self.file.attrs.get_id(name)
        is_text = h5py.check_string_dtype(attribute.dtype) is not None
        if not is_text or attribute.shape != () or attribute.get_storage_size() > self.size:
            raise FileError(f"{self.path}: attribute {name!r}: expected one string, found {attribute.dtype}")
        value = self.file.attrs[name]
        return value.decode() if isinstance(value, bytes) else str(value)

    def _leaf(self, value: Any, flagged: bool, where: str) -> Any:
        if not flagged or value is None:
            return value
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise FileError(f"{where}: expected the name of a dataset, found {describe(value)}")
        name = value.lstrip("/")
        if name not in self.arrays:
            self.arrays[name] = self._array(name, f"{where} ({name})")
        return self.arrays[name]

    def _array(self, name: str, where: str) -> np.ndarray:
        dataset = member(self.file, name)
        if dataset is None:
            raise FileError(f"{where}: expected a dataset in this file, found none, or a link to another place")
        need = expect_plain(dataset, where, chunks=False)
        is_bfloat16 = dataset.dtype == _BFLOAT16
        check_array(np.empty(0, np.uint16 if is_bfloat16 else dataset.dtype), where)
        self.left -= need
        if self.left < 0:
            raise FileError(f"{where}: shape {dataset.shape} needs {need} bytes, the file does not have them")
        if is_bfloat16:
            return from_bfloat16(np.asarray(dataset[()]).view(np.uint16))
        return np.asarray(dataset[()], dtype=dataset.dtype.newbyteorder("="))


def write_hdf5(file: BinaryIO, tree: dict[str, Any], name: str) -> None:
    """Write ``tree`` as an HDF5 file; ``name`` is that of error messages."""
    arrays: dict[str, np.ndarray] = {}

    def leaf(value: Any, flagged: bool, where: str) -> Any:
        if not flagged or value is None:
            return plain_value(value, where)
        arrays[key := f"variable_{len(arrays):04d}"] = check_array(value, where)
        return f"/{key}"

    text = json.dumps(map_leaves(expect_mapping(tree, name), leaf, name), separators=(",", ":"))
    # In memory first: HDF5 cannot recover from a full disk, an ordinary file can.
    with h5py.File("image", "w", driver="core", backing_store=False) as image:
        for key, array in arrays.items():
            image.create_dataset(key, data=array)
        image.attrs[_JSON] = text
        image.attrs[_CHECKSUM] = _checksum(text, arrays)
        image.flush()
        file.write(image.id.get_file_image())


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the JSON text and the bytes of the arrays in the order of the walk."""
    digest = hashlib.sha256(text.encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
