"""Structures from what a user names: systems of training data, or files that ASE reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpmodel.data.structure import Structure, from_ase
from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.data.xyz import read_xyz
from dpmodel.errors import BackendError, InputError
from dpmodel.io.files import expect_no_other
from dpmodel.potential import Potential


@dataclass(frozen=True)
class Frames:
    """The frames of one system or file; ``type_map``: names of the types in them."""

    path: str
    type_map: tuple[str, ...]
    frames: Sequence[Frame]

    @property
    def structures(self) -> list[Structure]:
        return [frame.structure for frame in self.frames]


def read_frames(paths: Sequence[Path], potential: Potential | None = None, index: str = ":") -> Iterator[Frames]:
    """The frames of every system in and below folders and HDF5 files, and of the structure files among ``paths``.

    Types are those of the model ``potential``, or as the files say.  ``index`` chooses frames of structure files, as
    ASE has it.  Raises FileError, InputError, and BackendError where ASE is missing.
    """
    for path in map(str, paths):
        if Path(path).is_dir() or "#" in path or Path(path).suffix in (".hdf5", ".h5", ".lmdb"):
            for name in find_systems([path]):
                system = System(name, potential.settings if potential else None)
                yield Frames(name, tuple(system.type_map), list(system))
        else:
            atoms = read_structures(Path(path), index)
            names = potential.type_map if potential else tuple(sorted({s for a in atoms for s in a.symbols}))
            labeled = [Frame(structure_of(a, f"{path}, frame {i}", potential, names)) for i, a in enumerate(atoms)]
            yield Frames(path, names, labeled)


def read_structures(path: Path, index: str = ":", form: str | None = None) -> list[Any]:
    """The ``ase.Atoms`` in a file, of ASE's format ``form`` or the one that ASE sees; without ASE, those of
    ``data.xyz`` in extended XYZ.

    InputError if it cannot be read, BackendError if it needs ASE.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    expect_no_other(path, "a file of structures")
    if find_spec("ase") is None:
        return _without_ase(path, index)
    import ase.io

    hint = "" if form else "; if ASE took it for another format, name its format: --format lammps-data, vasp, ..."
    try:
        frames = ase.io.read(path, index=index, format=form)
    except Exception as error:  # ASE's readers raise whatever they meet
        raise InputError(f"{path}: ASE cannot read structures {index!r} from it ({error}){hint}") from error
    frames = frames if isinstance(frames, list) else [frames]
    if not frames:
        raise InputError(f"{path}: there are no structures {index!r} in it{hint}")
    return frames


def _without_ase(path: Path, index: str) -> list[Any]:
    if path.suffix not in (".xyz", ".extxyz"):
        raise BackendError(f"{path}: formats other than extended XYZ need ASE: pip install 'dpmodel[ase]'")
    try:
        part = slice(*(int(n) if n else None for n in index.split(":"))) if ":" in index else slice(int(index), None)
    except (ValueError, TypeError):
        raise InputError(f"{index!r} is no choice of frames: 0, -1, 10:20, ...") from None
    frames = read_xyz(path)[part]
    if not frames:
        raise InputError(f"{path}: there are no structures {index!r} in it")
    return frames if ":" in index else frames[:1]


def structure_of(atoms: Any, where: str, potential: Potential | None, names: Sequence[str] = ()) -> Structure:
    """``ase.Atoms`` as the model reads them; InputError begins with ``where``."""
    try:
        return potential.structure(atoms) if potential else from_ase(atoms, names)
    except InputError as error:  # it was given one frame
        raise InputError(f"{where}: {str(error).removeprefix('frame 0, ').removeprefix('frame 0: ')}") from None
