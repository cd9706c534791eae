"""Arrays of numbers that lie in files in one piece, and the one place that opens ``.npy`` files.

Nothing is mapped into memory: where a mapped file is shortened, the process dies (SIGBUS) or reads zeros.
"""

import os
import weakref
from typing import Any

import h5py
import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.files import damaged, expect_content
from dpmodel.io.hdf5_guard import expect_plain
from dpmodel.xp import Array

IN_MEMORY = 2**30  # bytes that a process holds of all arrays together; rows of others are read when they are asked for


class OpenedFile:
    """The file ``path`` as it was when this was made; ``where`` in messages.  Raises FileError once it has changed."""

    def __init__(self, path: str, where: str = "") -> None:
        self.path, self._where = path, where or path
        self._state = self._look()
        self.size = self._state[0]

    def _look(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_size, status.st_mtime_ns

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on."""
        if offset + count > self.size:
            raise FileError(f"{self._where}: the file ends before byte {offset + count}: it was cut")
        if os.path.exists(self.path) and self._look() == self._state:
            with open(self.path, "rb") as file:
                file.seek(offset)
                data = file.read(count)
            if len(data) == count:
                return data
        raise FileError(f"{self._where}: the file has changed since it was opened; start again with data that stay")


class StoredArray:
    """An array in the file ``path`` from byte ``offset`` on, or ``values`` that were read; ``where`` in messages.

    It is read when its numbers are asked for: whole and once if it fits, row by row if not.  Raises FileError where the
    file has changed since the array was opened.
    """

    _held = 0  # bytes, of all arrays

    def __init__(
        self, path: str, where: str, shape: tuple[int, ...], dtype: Any, offset: int = 0, values: Array | None = None
    ) -> None:
        self.where, self.shape, self.dtype = where, shape, np.dtype(dtype)
        self.size = int(np.prod(shape, dtype=object))
        self._file, self._offset, self._values = OpenedFile(path, where), offset, values
        if values is None and offset + self.size * self.dtype.itemsize > self._file.size:
            raise FileError(f"{where}: shape {shape} of {self.dtype} needs more bytes than the file has")

    def row(self, i: int, n: int) -> Array:
        """Part ``i`` of ``n`` equal ones, flat."""
        count = self.size // n
        if self._values is None and self._fits():
            self._values = self._read(0, self.size)
        return self._read(i * count, count) if self._values is None else self._values.reshape(n, -1)[i]

    def all(self) -> Array:
        """The whole array."""
        return self.row(0, 1).reshape(self.shape)

    def _fits(self) -> bool:
        need = self.size * self.dtype.itemsize
        if StoredArray._held + need > IN_MEMORY:
            return False
        StoredArray._held += need
        weakref.finalize(self, StoredArray._release, need)
        return True

    @classmethod
    def _release(cls, size: int) -> None:
        cls._held -= size

    def _read(self, start: int, count: int) -> Array:
        step = self.dtype.itemsize
        return np.frombuffer(self._file.read(self._offset + start * step, count * step), self.dtype)


def open_npy(path: str) -> StoredArray:
    """The array in a ``.npy`` file; raises FileError where it is none, or cannot be in the file."""
    expect_content(path, ("a NumPy array file",), "an array of numbers (.npy)")
    try:
        with damaged(path, "an array of numbers"):
            mapped = np.lib.format.open_memmap(path, mode="r")  # NumPy's reader of headers raises nearly anything
            if not mapped.flags.c_contiguous and mapped.nbytes > IN_MEMORY:
                raise FileError(f"{path}: {mapped.nbytes} bytes in Fortran's order: save it with np.ascontiguousarray")
            values = None if mapped.flags.c_contiguous else np.array(mapped, order="C")
    except MemoryError:
        raise FileError(f"{path}: cannot be read as an array of numbers: its header is damaged") from None
    return StoredArray(path, path, mapped.shape, mapped.dtype, mapped.offset, values)


def stored_array(dataset: Any, path: str, where: str) -> StoredArray:
    """The array in a dataset of the file ``path``; what is in chunks is read at once."""
    need = expect_plain(dataset, where, chunks=True)
    dtype, offset = dataset.dtype, dataset.id.get_offset()
    if (
        offset is not None
        and not dataset.file.userblock_size
        and h5py.h5t.py_create(dtype).equal(dataset.id.get_type())
    ):
        return StoredArray(path, where, dataset.shape, dtype, offset)
    if need > IN_MEMORY:
        hint = "'h5repack -l CONTI -f NONE' makes it plain, and then it is read in parts"
        raise FileError(f"{where}: {need} bytes in chunks are more than are read at once: {hint}")
    return StoredArray(path, where, dataset.shape, dtype, values=dataset[()])
