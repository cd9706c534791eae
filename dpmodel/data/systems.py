"""Labeled structures in deepmd-kit's formats: standard, mixed-type and HDF5 (specification/data.md).

Opening a system looks at names and shapes; numbers are read, and checked, frame by frame when they are asked for.
"""

import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dpmodel.data.labels import frame_shape, label_name
from dpmodel.data.records import is_lmdb, lmdb_systems
from dpmodel.data.sources import MARK, Source, groups, is_hdf5, source
from dpmodel.data.structure import Structure, check_cell
from dpmodel.errors import FileError, InputError
from dpmodel.io.stored import StoredArray
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array

UNNAMED = "systems without type_map.raw (dpmodel data check names them)"
PARAMETERS = ("fparam", "aparam")
GEOMETRY = ("coord", "box", "real_atom_types")


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure and what is known of it.

    ``labels``: those that there are, by name, float64; shapes of one frame as in ``dpmodel.data.labels``.
    """

    structure: Structure
    labels: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Rows:
    """One array file, frame by frame."""

    values: StoredArray
    n_frames: int
    shape: tuple[int, ...]  # of one frame

    def __getitem__(self, i: int) -> Array:
        """Frame ``i``, float64; raises FileError where it is not finite."""
        frame = np.array(self.values.row(i, self.n_frames), dtype=np.float64).reshape(self.shape)
        bad = np.argwhere(~np.isfinite(frame))
        if len(bad):
            index = tuple(int(k) for k in bad[0])
            raise FileError(f"{self.values.where}: frame {i}: {list(index) or 'the value'} is {frame[index]}")
        return frame


@dataclass(frozen=True, eq=False)
class _Set:
    """The arrays of one set directory, by name; ``path`` is the directory."""

    path: str
    rows: dict[str, _Rows]
    n_frames: int


class System:
    """Frames with the same number of atoms.

    ``type_map``: names of the types in the frames, those of the model if there is one; ``labels``: names of the labels
    that at least one set has; ``gaps``: files of labels that only other sets have.  ``unnamed``: there is no
    ``type_map.raw``, and numbers are taken for types of the model, or their names where there is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Source,
        wants: ModelSettings | None = None,
        labels: Collection[str] | None = None,
        sets: Collection[str] | None = None,
    ) -> None:
        """Open the system at ``path`` for the model that ``wants`` describes; without one, as the files say.

        Only these ``labels`` and ``sets`` are looked at, all if None.

        Raises
        ------
        FileError
            Naming the file that is missing, damaged, or disagrees with the others or with the model.
        """
        self.source = source(path) if isinstance(path, str | os.PathLike) else path
        self.path = self.source.path
        self._wants, self._asked = wants, labels
        self._types = self._read_types()
        self.n_atoms = len(self._types)
        self.periodic = not self.source.has("nopbc")
        self.unnamed = not self.source.has("type_map.raw")
        self.type_map, self._table = self._mapping()
        self._sets = [self._open_set(name) for name in self._set_names() if sets is None or name in sets]
        self.mixed = self._is_mixed()
        self._starts = np.cumsum([0] + [s.n_frames for s in self._sets])
        self.n_frames = int(self._starts[-1])
        self.labels = tuple(sorted({name for s in self._sets for name in s.rows} - set(GEOMETRY)))
        self.gaps = [f"{s.path}/{name}.npy" for s in self._sets for name in self.labels if name not in s.rows]

    def __repr__(self) -> str:
        return f"<System {self.path}: {self.n_frames} frames of {self.n_atoms} atoms>"

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(self.n_frames))

    def frame(self, i: int) -> Frame:
        """Frame ``i``, counted over all sets; raises FileError naming file and frame where it cannot be used."""
        return Frame(self.structure(i), {name: self.label(i, name) for name in self.labels_of(i)})

    def structure(self, i: int) -> Structure:
        """The atoms of frame ``i`` alone, with its parameters."""
        k, s = self._locate(i)
        cell = s.rows["box"][k] if self.periodic else None
        if cell is not None:
            try:
                check_cell(cell, np.ones(3, dtype=bool), self.where(i, "box"))
            except InputError as error:
                raise FileError(str(error)) from None
        return Structure(
            positions=s.rows["coord"][k],
            types=self._frame_types(k, s),
            cell=cell,
            pbc=np.full(3, self.periodic),
            **self._parameters(k, s),
        )

    def labels_of(self, i: int) -> list[str]:
        """The labels that the set of frame ``i`` has."""
        return [name for name in self._locate(i)[1].rows if name not in (*GEOMETRY, *PARAMETERS)]

    def label(self, i: int, name: str) -> Array:
        """One label of frame ``i``."""
        k, s = self._locate(i)
        return s.rows[name][k]

    def types(self, i: int) -> Array:
        """The types of the atoms of frame ``i``, (n,) int: indices into ``type_map``, -1 for virtual atoms."""
        return self._frame_types(*self._locate(i))

    def counts(self, i: int) -> Array:
        """Number of atoms of each type in frame ``i``, (n_types,) int; virtual ones not counted."""
        types = self.types(i)
        return np.bincount(types[types >= 0], minlength=len(self.type_map))

    def where(self, i: int, name: str) -> str:
        """For messages: the file of an array, and frame ``i`` in it."""
        k, s = self._locate(i)
        return f"{s.rows[name].values.where}: frame {k}"

    def _locate(self, i: int) -> tuple[int, _Set]:
        if not 0 <= i < self.n_frames:
            raise IndexError(f"{self.path} has {self.n_frames} frames, there is no frame {i}")
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        return i - int(self._starts[which]), self._sets[which]

    # --- system files ---

    def _read_types(self) -> Array:
        words = self.source.tokens(MARK)
        try:
            types = np.array(words, dtype=np.float64)
        except ValueError:
            types = np.full(1, np.nan)
        if not (np.abs(types) < 2**31).all() or (types % 1).any():
            raise FileError(f"{self.path}/{MARK}: expected integers, one for each atom, found others or text")
        types = types.astype(np.int64)
        if not len(types):
            raise FileError(f"{self.path}/{MARK}: expected integers, one for each atom, found an empty file")
        if types.min() < 0:
            raise FileError(f"{self.path}/{MARK}: atom {types.argmin()} has type {types.min()}; types start at 0")
        return types

    def _mapping(self) -> tuple[tuple[str, ...], Array]:
        """Names of the types of the frames, and the type there of each type of the files."""
        wanted = self._wants.type_map if self._wants else None
        names = wanted if self.unnamed else tuple(self.source.tokens("type_map.raw"))
        if names is None:
            numbers, self._types = np.unique(self._types, return_inverse=True)
            return tuple(map(str, numbers)), np.arange(len(numbers))
        if len(names) <= self._types.max():
            raise FileError(
                f"{self.path}/{MARK}: atom {self._types.argmax()} has type {self._types.max()}, but"
                f" {'the model' if self.unnamed else 'type_map.raw'} has {len(names)} types ({', '.join(names)})"
            )
        if self.unnamed:
            meant = ", ".join(f"{t} for {name}" for t, name in enumerate(names))
            warnings.warn(f"{UNNAMED}: the numbers of types are those of the model, {meant}", stacklevel=3)
        type_map = wanted or names
        missing = [name for name in names if name not in type_map]
        if missing:
            raise FileError(
                f"{self.path}/type_map.raw: {', '.join(map(repr, missing))} not among the model's types"
                f" {', '.join(type_map)}; add to type_map of the model, or take out of the file if no atom is one"
            )
        return type_map, np.array([type_map.index(name) for name in names])

    # --- sets ---

    def _set_names(self) -> list[str]:
        names = self.source.sets()
        if not names:
            raise FileError(f"{self.path}: expected directories set.000, set.001, ... with the frames, found none")
        return names

    def _open_set(self, folder: str) -> _Set:
        names, path = self.source.arrays(folder), f"{self.path}/{folder}"
        for name, hint in (("coord", ""), ("box", "; a system without periodicity has a file nopbc")):
            if name not in names and (name == "coord" or self.periodic):
                raise FileError(f"{path}/{name}.npy: there is no such file{hint}")
        coord = self.source.array(folder, "coord")
        n_frames = coord.shape[0] if len(coord.shape) > 1 else 1
        if not n_frames:
            raise FileError(f"{path}/coord.npy: there are no frames in it")
        arrays = sorted((name for name in names if self._is_read(name, names)), key=GEOMETRY.__contains__)
        return _Set(path, {label_name(name): self._open(folder, name, n_frames) for name in arrays}, n_frames)

    def _is_read(self, name: str, others: Collection[str]) -> bool:
        """Whether an array is looked at; ``others`` are in the same set."""
        label = label_name(name)
        if label in GEOMETRY:
            return label != "box" or self.periodic
        if label != name and label in others:  # atom_X counts, not atomic_X
            return False
        if self._wants is not None and label in PARAMETERS:
            return bool(getattr(self._wants.fitting_net, f"numb_{label}"))
        return self._asked is None or label in self._asked

    def _open(self, folder: str, name: str, n_frames: int) -> _Rows:
        values = self.source.array(folder, name)
        if values.dtype.kind not in "iufb":
            raise FileError(f"{values.where}: expected real numbers, found {values.dtype}")
        if values.size % n_frames or (n_frames > 1 and values.shape[0] != n_frames):
            raise FileError(f"{values.where}: expected {n_frames} frames as in coord.npy, found shape {values.shape}")
        shapes = {"coord": (self.n_atoms, 3), "box": (3, 3), "real_atom_types": (self.n_atoms,)}
        per_frame = values.size // n_frames
        shape = shapes.get(name) or frame_shape(label_name(name), self.n_atoms, per_frame)
        if shape is None or int(np.prod(shape)) != per_frame:
            hint = " (a box has nine numbers: rows are lattice vectors)" if name == "box" else ""
            raise FileError(
                f"{values.where}: {per_frame} numbers a frame do not fit {self.n_atoms} atoms (as in {MARK}){hint};"
                f" found shape {values.shape}"
            )
        return _Rows(values, n_frames, shape)

    def _is_mixed(self) -> bool:
        mixed = ["real_atom_types" in s.rows for s in self._sets]
        if any(mixed) and not all(mixed):
            lacking = self._sets[mixed.index(False)].path
            raise FileError(f"{lacking}/coord.npy: some sets have real_atom_types.npy, but not the one of this file")
        if any(mixed) and self._types.any():
            raise FileError(
                f"{self.path}/{MARK}: should hold zeros only, since real_atom_types.npy has the types;"
                f" atom {int(self._types.argmax())} has {self._types.max()}"
            )
        if any(mixed) and self.unnamed and self._wants is None:
            raise FileError(f"{self.path}/type_map.raw: there is no such file, but real_atom_types.npy refers to it")
        return any(mixed)

    # --- frames ---

    def _frame_types(self, k: int, s: _Set) -> Array:
        if not self.mixed:
            return self._table[self._types]
        types, n = s.rows["real_atom_types"][k], len(self._table)
        bad = np.flatnonzero((types != np.floor(types)) | (types < -1) | (types >= n))
        if len(bad):
            raise FileError(
                f"{s.path}/real_atom_types.npy: frame {k}, atom {bad[0]}: type {types[bad[0]]:g} is not in"
                f" -1 ... {n - 1} (of {n} names; -1 is a virtual atom)"
            )
        return np.append(self._table, -1)[types.astype(np.int64)]

    def _parameters(self, k: int, s: _Set) -> dict[str, Array | None]:
        """Frame and atomic parameters as the model wants them; all that there are without a model."""
        values = {name: s.rows[name][k] if name in s.rows else None for name in PARAMETERS}
        if self._wants is None:
            return values
        fitting = self._wants.fitting_net
        if values["fparam"] is None and fitting.default_fparam is not None:
            values["fparam"] = np.array(fitting.default_fparam)
        for name, width in (("fparam", fitting.numb_fparam), ("aparam", fitting.numb_aparam)):
            value = values[name]
            if not width:
                values[name] = None
            elif value is None or value.shape[-1] != width:
                what = "there is no such file" if value is None else f"it has {value.shape[-1]}"
                raise FileError(f"{s.path}/{name}.npy: the model wants {width} numbers ({name}), but {what}")
        return values


def find_systems(systems: str | Sequence[str], patterns: Sequence[str] | None = None) -> list[str]:
    """Paths of the systems in and below folders and HDF5 files, sorted within each entry (specification/data.md 5).

    ``patterns``: take only directories that match one of these, as ``Path.rglob`` has it.  Raises FileError for an
    entry that has no system.
    """
    folders = []
    for entry in [systems] if isinstance(systems, str | os.PathLike) else systems:
        here = _below(os.fspath(entry), patterns)
        if not here:
            those = f" that match {', '.join(patterns)} (rglob_patterns)" if patterns is not None else ""
            raise FileError(f"{entry}: expected systems (folders with {MARK}) in or below it{those}, found none")
        folders += here
    return folders


def _below(entry: str, patterns: Sequence[str] | None) -> list[str]:
    file = entry.partition("#")[0]
    if is_lmdb(entry):
        return lmdb_systems(entry)
    if is_hdf5(entry) or (file != entry and os.path.exists(file)):
        return groups(entry)
    if not os.path.isdir(entry):
        what = "a file of another kind" if os.path.exists(entry) else f"nothing (looked for it from {os.getcwd()})"
        hint = "; patterns go into rglob_patterns" if set("*?[") & set(entry) else ""
        raise FileError(f"{entry}: expected a directory or an HDF5 file, found {what}{hint}")
    if patterns is None:
        inside = [folder for folder, _, files in _walk(entry) if MARK in files]
    else:
        matching = {path for pattern in patterns for path in Path(entry).rglob(pattern)}
        inside = [os.fspath(path) for path in matching if (path / MARK).is_file()]
    return sorted(inside)


def _walk(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` through links, each directory once."""
    seen: set[str] = set()
    for folder, below, files in os.walk(top, followlinks=True):
        below[:] = [name for name in below if os.path.realpath(os.path.join(folder, name)) not in seen]
        seen.add(os.path.realpath(folder))
        yield folder, below, files
