"""The sources of a system's files: a folder, a group in an HDF5 file, or LMDB records (specification/data.md 1, 4)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import h5py

from dpmodel.data.records import Records, is_lmdb
from dpmodel.errors import FileError
from dpmodel.io.files import read_text
from dpmodel.io.hdf5_guard import member, opened, words
from dpmodel.io.stored import StoredArray, open_npy, stored_array

MARK = "type.raw"  # what makes a folder a system


class Source(Protocol):
    """The files of one system; ``path`` is its name for people."""

    path: str

    def has(self, name: str) -> bool:
        """Whether there is a file ``name``."""

    def tokens(self, name: str) -> list[str]:
        """The words in a text file."""

    def sets(self) -> list[str]:
        """Names of the set directories, sorted as text."""

    def arrays(self, folder: str) -> list[str]:
        """Names, without ``.npy``, of the arrays in a set directory, sorted."""

    def array(self, folder: str, name: str) -> StoredArray:
        """An array that is read when it is indexed; raises FileError if it is damaged."""


class Folder:
    """A system in a directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._root = Path(path)

    def has(self, name: str) -> bool:
        return (self._root / name).exists()

    def tokens(self, name: str) -> list[str]:
        return read_text(f"{self.path}/{name}").split()

    def sets(self) -> list[str]:
        return sorted(path.name for path in self._root.glob("set.*") if path.is_dir())

    def arrays(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self._root / folder).glob("*.npy"))

    def array(self, folder: str, name: str) -> StoredArray:
        return open_npy(f"{self.path}/{folder}/{name}.npy")


class Group:
    """A system in an HDF5 file, which is open only while something is read; ``path`` is ``file#/group``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file, _, self._group = path.partition("#")

    def has(self, name: str) -> bool:
        return self._read(lambda top: member(top, name) is not None)

    def tokens(self, name: str) -> list[str]:
        return self._read(lambda top: words(member(top, name), self._file, f"{self.path}/{name}"))

    def sets(self) -> list[str]:
        return self._read(lambda top: sorted(n for n in top if n.startswith("set.") and _is_group(member(top, n))))

    def arrays(self, folder: str) -> list[str]:
        return self._read(lambda top: sorted(n.removesuffix(".npy") for n in member(top, folder) if n.endswith(".npy")))

    def array(self, folder: str, name: str) -> StoredArray:
        path = f"{folder}/{name}.npy"
        return self._read(lambda top: stored_array(member(top, path), self._file, f"{self.path}/{path}"))

    def systems(self) -> list[str]:
        """Names of the groups, here and below, that are systems."""

        def look(top: h5py.Group) -> list[str]:
            every = [top]
            top.visititems(lambda _, item: every.append(item) if _is_group(item) else None)
            return sorted(group.name for group in every if member(group, MARK) is not None)

        return self._read(look)

    def _read(self, look: Callable[[h5py.Group], Any]) -> Any:
        """The result of ``look`` in the group."""
        with opened(self._file) as file:
            top = member(file, self._group)
            if not _is_group(top):
                raise FileError(f"{self.path}: expected a group of the HDF5 file, found nothing of that name")
            return look(top)


def source(path: str | os.PathLike[str]) -> Source:
    """The source at a path as ``find_systems`` gives it; raises FileError if no system is there."""
    name = os.fspath(path)
    here: Source = Records(name) if is_lmdb(name) else Group(name) if "#" in name or is_hdf5(name) else Folder(name)
    if not here.has(MARK):
        what = f"no file {MARK}" if Path(name.partition("#")[0]).exists() else "nothing"
        raise FileError(f"{name}: expected a system (a folder with {MARK}), found {what}")
    return here


def groups(path: str) -> list[str]:
    """Paths of the systems in an HDF5 file, or below ``file#/group``."""
    file, _, start = path.partition("#")
    return [f"{file}#{name}" for name in Group(f"{file}#{start or '/'}").systems()]


def is_hdf5(path: str) -> bool:
    return os.path.isfile(path) and h5py.is_hdf5(path)


def _is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)
