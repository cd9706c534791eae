"""Systems in deepmd-kit's LMDB files: a record for each frame, which may have any number of atoms.

Frames with as many atoms and the same labels make a system of mixed types: ``file.lmdb#0``, ``file.lmdb#1``, ...
"""

import os
from functools import lru_cache
from typing import Any

import numpy as np

from dpmodel.data.labels import label_name
from dpmodel.errors import FileError, SettingError
from dpmodel.io.files import damaged
from dpmodel.io.lmdb import values
from dpmodel.io.stored import OpenedFile, StoredArray
from dpmodel.xp import Array

META = b"__metadata__"
NAMES = {"coords": "coord", "cells": "box", "energies": "energy", "forces": "force", "virials": "virial"}
NAMES |= {"atom_types": "real_atom_types", "atype": "real_atom_types"}
BESIDE = ("atom_numbs", "atom_names", "orig", "nopbc", "fid", "natoms", "real_natoms_vec")


Kind = tuple[tuple[str, int], ...]  # what frames of one system have in common: names of arrays and their sizes


class Database:
    """An LMDB file: ``kinds`` of frames, each with the keys of its records."""

    def __init__(self, path: str) -> None:
        try:
            import msgpack
        except ModuleNotFoundError as error:
            raise SettingError(f"{path}: LMDB files need a package: pip install 'dpmodel[lmdb]'") from error
        self.path, self._unpack = path, msgpack.unpackb
        with damaged(path, "an LMDB file of deepmd-kit"):
            self._file = OpenedFile(data_file(path))
            self._values = values(self._file)
            meta = self._record(META)
            numbered = {int(key): key for key in self._values if key.isdigit()}
            if meta["nframes"] > len(numbered):
                raise FileError(f"{path}: expected {meta['nframes']} frames, found {len(numbered)}")
            keys = [numbered[i] for i in range(meta["nframes"])]
            self.type_map = [str(name) for name in meta.get("type_map") or ()]
            self.kinds: dict[Kind, list[bytes]] = {}
            for key in keys:
                kind = tuple(sorted((name, array.size) for name, array in self._frame(key).items()))
                self.kinds.setdefault(kind, []).append(key)
        self.frame = lru_cache(maxsize=4)(self._frame)

    def _record(self, key: bytes) -> dict[str, Any]:
        if key not in self._values:
            number = f"{len(self._values)} others" if self._values else "none at all"
            raise FileError(f"{self.path}: expected a record {key.decode()} as deepmd-kit writes it, found {number}")
        return dict(self._unpack(self._file.read(*self._values[key]), strict_map_key=False))

    def _frame(self, key: bytes) -> dict[str, Array]:
        """The arrays of a frame by their names in files of systems."""
        record = self._record(key)
        names = [n for n in record if n not in BESIDE and not n.startswith("find_") and record.get(f"find_{n}", 1)]
        values = {NAMES.get(name, label_name(name)): _array(record[name]) for name in names}
        if "real_atom_types" not in values:
            raise FileError(f"{self.path}: record {key.decode()}: expected atom_types, found none")
        return {n: a for n, a in values.items() if a is not None and (n != "box" or a.any())}


def _array(value: Any) -> Array | None:
    """A number, or an array as msgpack holds it; None for anything else."""
    if isinstance(value, int | float):
        return np.asarray(float(value))
    if isinstance(value, dict):
        value = {name.decode() if isinstance(name, bytes) else name: part for name, part in value.items()}
        if {"type", "data"} <= value.keys():
            return np.frombuffer(value["data"], np.dtype(value["type"]))
    return None


class _Column(StoredArray):
    """One array of all frames of a kind, each read from its record."""

    def __init__(self, database: Database, kind: Kind, name: str, where: str) -> None:
        self._database, self._name, self._keys = database, name, database.kinds[kind]
        self.where, self.shape = where, (len(self._keys), dict(kind)[name])
        self.dtype, self.size = database.frame(self._keys[0])[name].dtype, self.shape[0] * self.shape[1]

    def row(self, i: int, n: int) -> Array:
        with damaged(self._database.path, "an LMDB file of deepmd-kit"):
            return self._database.frame(self._keys[i])[self._name]


@lru_cache(maxsize=8)
def _opened(path: str, modified: int) -> Database:
    return Database(path)


def _open(path: str) -> Database:
    """The file as it is now, read once for all of its systems."""
    return _opened(path, os.stat(data_file(path)).st_mtime_ns)


class Records:
    """A system in an LMDB file; ``path`` is ``file#number``."""

    def __init__(self, path: str) -> None:
        file, _, number = path.partition("#")
        self.path, self._database = path, _open(file)
        kinds = list(self._database.kinds)
        if not number.isdigit() or int(number) >= len(kinds):
            raise FileError(f"{path}: expected the number of one of {len(kinds)} systems after #, found {number!r}")
        self._kind = dict(kinds[int(number)])

    def has(self, name: str) -> bool:
        files = {"type.raw": True, "type_map.raw": bool(self._database.type_map)}
        return files.get(name, "box" not in self._kind)

    def tokens(self, name: str) -> list[str]:
        return ["0"] * self._kind["real_atom_types"] if name == "type.raw" else self._database.type_map

    def sets(self) -> list[str]:
        return ["set.000"]

    def arrays(self, folder: str) -> list[str]:
        return list(self._kind)

    def array(self, folder: str, name: str) -> StoredArray:
        return _Column(self._database, tuple(self._kind.items()), name, f"{self.path}/{folder}/{name}.npy")


def data_file(path: str) -> str:
    """Of a folder as LMDB makes it, or the file that ``path`` itself is."""
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


def is_lmdb(path: str) -> bool:
    file = path.partition("#")[0]
    return os.path.exists(data_file(file)) and (file.endswith(".lmdb") or os.path.isdir(file))


def lmdb_systems(path: str) -> list[str]:
    """Paths of the systems in an LMDB file."""
    return [path] if "#" in path else [f"{path}#{k}" for k in range(len(_open(path).kinds))]
