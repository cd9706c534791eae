"""Where the files of a system are: a folder, or a group in an HDF5 file (specification/data.md 1, 4)."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from dpmodel.errors import FileError

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

    def array(self, folder: str, name: str) -> Any:
        """An array that is read when it is indexed; raises FileError if it is damaged or holds no numbers."""


class Folder:
    """A system in a directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._root = Path(path)

    def has(self, name: str) -> bool:
        return (self._root / name).exists()

    def tokens(self, name: str) -> list[str]:
        try:
            return (self._root / name).read_text("utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{self.path}/{name}: cannot be read as text: {error}") from error

    def sets(self) -> list[str]:
        return sorted(path.name for path in self._root.glob("set.*") if path.is_dir())

    def arrays(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self._root / folder).glob("*.npy"))

    def array(self, folder: str, name: str) -> Any:
        path = self._root / folder / f"{name}.npy"
        try:
            found = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise FileError(f"{path}: cannot be read as an array of numbers: {error}") from error
        return numeric(found, str(path))


class Group:
    """A system in an HDF5 file; ``path`` is ``file#/group``."""

    def __init__(self, path: str) -> None:
        file, _, group = path.partition("#")
        self.path, self._group = path, open_group(file, group or "/")

    def has(self, name: str) -> bool:
        return name in self._group

    def tokens(self, name: str) -> list[str]:
        found = self._group[name]
        if not isinstance(found, h5py.Dataset):
            raise FileError(f"{self.path}/{name}: expected a dataset of numbers or words, found a group")
        words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.ravel(found[()])]
        return " ".join(words).split()

    def sets(self) -> list[str]:
        return sorted(name for name, item in self._group.items() if name.startswith("set.") and _is_group(item))

    def arrays(self, folder: str) -> list[str]:
        return sorted(name.removesuffix(".npy") for name in self._group[folder] if name.endswith(".npy"))

    def array(self, folder: str, name: str) -> Any:
        return numeric(self._group[folder][f"{name}.npy"], f"{self.path}/{folder}/{name}.npy")


def source(path: str | os.PathLike[str]) -> Source:
    """The source at a path as ``find_systems`` gives it; raises FileError if no system is there."""
    name = os.fspath(path)
    found: Source = Group(name) if "#" in name or is_hdf5(name) else Folder(name)
    if not found.has(MARK):
        what = "no file type.raw" if Path(name.partition("#")[0]).exists() else "nothing"
        raise FileError(f"{name}: expected a system (a folder with {MARK}), found {what}")
    return found


def groups(path: str) -> Iterator[str]:
    """Paths of the systems in an HDF5 file, or below ``file#/group``."""
    file, _, start = path.partition("#")
    found: list[str] = []
    top = open_group(file, start or "/")
    if MARK in top:
        found.append(top.name)
    top.visititems(lambda _, item: found.append(item.name) if _is_group(item) and MARK in item else None)
    yield from (f"{file}#{name}" for name in sorted(found))


def is_hdf5(path: str) -> bool:
    return os.path.isfile(path) and h5py.is_hdf5(path)


@lru_cache(maxsize=64)
def open_file(path: str) -> h5py.File:
    if not os.path.exists(path):
        raise FileError(f"{path}: expected an HDF5 file, found nothing (looked for it from {os.getcwd()})")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise FileError(f"{path}: cannot be read as an HDF5 file: {error}") from error


def open_group(file: str, group: str) -> h5py.Group:
    found = open_file(file).get(group)
    if not _is_group(found):
        raise FileError(f"{file}#{group}: expected a group of the HDF5 file, found nothing of that name")
    return found


def numeric(array: Any, where: str) -> Any:
    if not isinstance(array, np.ndarray | h5py.Dataset) or array.shape is None:
        raise FileError(f"{where}: expected an array of numbers, found {type(array).__name__} without a shape")
    if array.dtype.kind not in "iufb":
        raise FileError(f"{where}: expected real numbers, found {array.dtype}")
    return array


def _is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)
