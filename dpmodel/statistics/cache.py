"""Statistics kept between runs, in deepmd-kit's layout: an HDF5 file or a folder (specification/training.md 7.3).

Beside them is a record of what they were made from, which deepmd-kit does not keep: those of other data are noticed.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpmodel.data.systems import Frame
from dpmodel.errors import FileError
from dpmodel.io.files import damaged, make_folder, replacing
from dpmodel.io.hdf5_guard import member, opened
from dpmodel.io.stored import StoredArray, open_npy, stored_array
from dpmodel.model.build import output_width
from dpmodel.model.settings import ModelSettings
from dpmodel.statistics.environment import Moments, Statistics, statistics
from dpmodel.xp import Array

NOTE = "dpmodel"  # what the numbers were made from: an attribute of the group, or a file in the folder

Arrays = dict[str, Array]
Note = dict[str, Any]


def kept_statistics(
    path: str, frames: Callable[[], Iterable[Frame]], settings: ModelSettings, *, read_only: bool, write: bool
) -> Statistics:
    """Those in ``path`` if all are there and belong to ``frames``, or computed, and kept there if ``write``.

    ``read_only``: never computed.  Raises FileError where an entry is missing then, or is not what it should be.
    """
    target, group = Path(path), " ".join(settings.type_map)
    ours, shapes = made_from(frames(), settings), _shapes(settings)
    entries, note = (_read_hdf5 if _is_hdf5(target) else _read_folder)(target, group, shapes)
    missing = [name for name in shapes if name not in entries]
    if read_only and missing:
        raise FileError(f"{path}: expected {group}/{missing[0]}, found none (stat_file_mode 'read' computes nothing)")
    others = [key for key in ours if note is not None and note.get(key) != ours[key]]
    if not missing and (read_only or not others):
        if others or note is None:
            whose = f"other {', '.join(others)}" if others else "unknown data"
            warnings.warn(f"{path}: statistics of {whose} are used", UserWarning, stacklevel=2)
        return _statistics(entries, settings)
    if others:
        warnings.warn(f"{path}: statistics of other {', '.join(others)} are computed again", UserWarning, stacklevel=2)
    result = statistics(frames(), settings)
    if write:
        (_write_hdf5 if _is_hdf5(target) else _write_folder)(target, group, _entries(result, settings), ours)
    return result


def made_from(frames: Iterable[Frame], settings: ModelSettings) -> Note:
    """The data and settings that statistics depend on, beside those that their names say."""
    digest, model, output = hashlib.sha256(), settings.model_dump(), settings.fitting_net.output
    for frame in frames:
        s = frame.structure
        labels = frame.labels.get(output), frame.labels.get(f"atom_{output}")
        for value in (s.positions, s.types, s.cell, s.fparam, s.aparam, *labels):
            digest.update(b"" if value is None else np.ascontiguousarray(value).tobytes())
    descriptor = {key: model["descriptor"].get(key) for key in ("exclude_types", "env_protection", "truncate")}
    own = {key: model[key] for key in ("pair_exclude_types", "atom_exclude_types", "preset_out_bias")}
    return {"frames": digest.hexdigest(), **own, **descriptor, "rcond": model["fitting_net"].get("rcond")}


# Names and numbers


def _block(name: str, settings: ModelSettings) -> str:
    """The name of a block: blocks with equal cutoffs have the same rows."""
    block = settings.descriptor.block_settings[name]
    about = {"type": "se_a", "ntypes": settings.n_types, "rcut": round(block.cutoff, 2)}
    about |= {"rcut_smth": round(block.smooth_cutoff, 2)}
    about |= {"nsel": block.nsel, "sel": [block.nsel], "mixed_types": True}
    return hashlib.sha1(json.dumps(about).encode(), usedforsecurity=False).hexdigest()


def _shapes(settings: ModelSettings) -> dict[str, tuple[int, ...]]:
    n, fitting = settings.n_types, settings.fitting_net
    blocks = [_block(name, settings) for name in settings.selection.blocks]
    parameters = {"fparam": fitting.numb_fparam, "aparam": fitting.numb_aparam}
    return {
        **{f"{block}/{part}_{t}": (3,) for block in blocks for part in "ra" for t in range(n)},
        **{name: (k, 3) for name, k in parameters.items() if k},
        **{f"{what}_atom_{fitting.output}": (n, output_width(fitting)) for what in ("bias", "std")},
    }


def _entries(sample: Statistics, settings: ModelSettings) -> Arrays:
    names = [
        name for name, n in zip(settings.type_map, next(iter(sample.rows.values())).number[:, 0], strict=True) if n
    ]
    output = settings.fitting_net.output
    entries = {f"bias_atom_{output}": sample.bias, f"std_atom_{output}": sample.deviation}
    entries["observed_type"] = np.array(sorted(names), dtype="S")
    for name, moments in sample.rows.items():
        for t, row in enumerate(np.stack(moments, axis=-1)):
            entries |= {f"{_block(name, settings)}/{part}_{t}": x for part, x in zip("ra", row, strict=True)}
    for name, parameters in (("fparam", sample.fparam), ("aparam", sample.aparam)):
        entries |= {name: np.stack(parameters, axis=-1)} if parameters is not None else {}
    return entries


def _statistics(entries: Arrays, settings: ModelSettings) -> Statistics:
    rows = {}
    for name in settings.selection.blocks:
        block, types = _block(name, settings), range(settings.n_types)
        rows[name] = _moments(np.array([[entries[f"{block}/{part}_{t}"] for part in "ra"] for t in types]))
    parameters = [_moments(entries[name]) if name in entries else None for name in ("fparam", "aparam")]
    output = settings.fitting_net.output
    return Statistics(rows, entries[f"bias_atom_{output}"], entries[f"std_atom_{output}"], *parameters)


def _moments(values: Array) -> Moments:
    return Moments(*np.moveaxis(values, -1, 0))


# Files


def _is_hdf5(path: Path) -> bool:
    return path.suffix in (".h5", ".hdf5")


def _checked(array: StoredArray, shape: tuple[int, ...], where: str) -> Array:
    """The numbers of an entry; a FileError if they cannot be those."""
    if array.shape != shape or array.dtype.kind not in "iuf" or not np.isfinite(array.all()).all():
        raise FileError(
            f"{where}: expected finite numbers of shape {shape}, found {array.dtype} of shape {array.shape}"
        )
    return np.asarray(array.all(), dtype=np.float64)


def _read_hdf5(path: Path, group: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Arrays, Note | None]:
    if not path.exists():
        return {}, None
    with opened(str(path)) as file:
        node = member(file, group)
        if node is None:
            return {}, None
        entries = {n: entry for n in shapes if (entry := member(node, n)) is not None}
        stored = {n: stored_array(entry, str(path), f"{path}: {group}/{n}") for n, entry in entries.items()}
        arrays = {n: _checked(entry, shapes[n], entry.where) for n, entry in stored.items()}
        return arrays, _note(node.attrs[NOTE]) if NOTE in node.attrs else None


def _write_hdf5(path: Path, group: str, entries: Arrays, note: Note) -> None:
    old = path.read_bytes() if path.exists() else b""
    whole = BytesIO(old)
    with h5py.File(whole, "r+" if old else "w") as file:
        node = file.require_group(group)
        for name, value in entries.items():
            if name in node:
                del node[name]
            node[name] = value
        node.attrs[NOTE] = json.dumps(note)
    make_folder(path.parent)
    with replacing(path) as new:
        new.write(whole.getvalue())


def _read_folder(path: Path, group: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Arrays, Note | None]:
    folder = path / group
    with damaged(folder, "a folder of statistics"):
        there = {name: open_npy(str(folder / name)) for name in shapes if (folder / name).exists()}
        note = _note((folder / NOTE).read_text()) if (folder / NOTE).exists() else None
    return {name: _checked(value, shapes[name], f"{folder / name}") for name, value in there.items()}, note


def _write_folder(path: Path, group: str, entries: Arrays, note: Note) -> None:
    """Until all is written, the note is empty: the numbers may be of different data."""
    folder = path / group
    _write_note(folder, {})
    for name, value in entries.items():
        make_folder((folder / name).parent)
        with replacing(folder / name) as file:
            np.save(file, value, allow_pickle=False)
    _write_note(folder, note)


def _write_note(folder: Path, note: Note) -> None:
    make_folder(folder)
    with replacing(folder / NOTE) as file:
        file.write(json.dumps(note).encode())


def _note(text: str) -> Note:
    note = json.loads(text)
    return note if isinstance(note, dict) else {}
