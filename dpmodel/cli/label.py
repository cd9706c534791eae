"""Label structures with a model, as training data.

Every list of types gets a system, its frames in sets. The same command goes on where a stopped one ended. Labels are
energies, forces and virials, or what the model predicts.

Examples:
    dpmodel label teacher.dp candidates.xyz --to data/
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dpmodel.cli.frames import read_frames
from dpmodel.cli.options import Backend, Device, Head, Index, Model, Precision, Structures, Trust, console, progress
from dpmodel.data.labels import LABELS
from dpmodel.data.structure import Structure
from dpmodel.errors import FileError, InputError
from dpmodel.io.files import make_folder, replacing, staged
from dpmodel.potential import Potential, load
from dpmodel.prediction import Prediction

RECORD = "labels_from.json"  # whose labels a folder holds
Arrays = dict[str, np.ndarray]


def main(
    model: Model,
    structures: Structures,
    folder: Annotated[Path, typer.Option("--to", help="Folder of the systems, new or begun.")],
    index: Index = ":",
    head: Head = None,
    size: Annotated[int, typer.Option("--set-size", min=1, help="Frames of a set, which is written at once.")] = 200,
    backend: Backend = "numpy",
    device: Device = None,
    precision: Precision = None,
    trust: Trust = False,
) -> None:
    potential = load(model, backend, head=head, device=device, precision=precision, trusted=trust)
    every = [s for frames in read_frames(structures, potential, index) for s in frames.structures]
    groups = grouped(every, potential.type_map)
    begin(folder, {"model": sha256(model), "head": head, "set_size": size})
    total = sum(len(frames) for frames in groups.values())
    with progress() as bar:
        task = bar.add_task("labeling", total=total)
        for name, frames in groups.items():
            for done in label(potential, frames, folder / name, size):
                bar.advance(task, done)
    systems = f"{len(groups)} system{'s' if len(groups) > 1 else ''}"
    console.print(f"{folder}: {total} frames in {systems}", markup=False, highlight=False, soft_wrap=True)


def formula(types: np.ndarray, type_map: Sequence[str]) -> str:
    """The name of a system: H2O1, or the number of atoms where that would be no name of a folder."""
    counts = Counter(types[types >= 0].tolist())
    name = "".join(f"{type_map[t]}{counts[t]}" for t in sorted(counts))
    return name if name.isalnum() and len(name) < 100 else f"{sum(counts.values())}_atoms"


def grouped(structures: Sequence[Structure], type_map: Sequence[str]) -> dict[str, list[Structure]]:
    """Frames that a system can hold together, by its name: the same atoms in the same order, periodic or not."""
    groups: dict[tuple[bytes, bool], list[Structure]] = {}
    for i, s in enumerate(structures):
        if s.pbc.any() and not s.pbc.all():
            raise InputError(f"structure {i}: systems repeat in all directions or in none, got pbc {s.pbc.tolist()}")
        groups.setdefault((s.types.tobytes(), bool(s.pbc.all())), []).append(s)
    names = [formula(frames[0].types, type_map) for frames in groups.values()]
    counts = Counter(names)
    numbered = [f"{name}.{names[:i].count(name)}" if counts[name] > 1 else name for i, name in enumerate(names)]
    return dict(zip(numbered, groups.values(), strict=True))


def begin(folder: Path, record: dict[str, object]) -> None:
    """Make the folder, or make sure that it was begun in the same way.  Raises FileError."""
    file = folder / RECORD
    if not folder.exists() or not any(folder.iterdir()):
        make_folder(folder)
        with replacing(file) as new:
            new.write(json.dumps(record).encode())
    elif not file.is_file() or json.loads(file.read_text()) != record:
        raise FileError(f"{folder}: holds no labels of this model in sets of this size; name a new folder")


def sha256(path: Path) -> str:
    """The content of a file in 64 digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label(potential: Potential, frames: Sequence[Structure], system: Path, size: int) -> Iterator[int]:
    """Write the sets that ``system`` lacks; yields how many frames each has.  Raises FileError for other frames."""
    make_folder(system)
    real = frames[0].types >= 0
    (system / "type.raw").write_text("\n".join(map(str, frames[0].types[real])) + "\n")
    (system / "type_map.raw").write_text("\n".join(potential.type_map) + "\n")
    if not frames[0].pbc.all():
        (system / "nopbc").touch()
    for number, start in enumerate(range(0, len(frames), size)):
        part, folder = frames[start : start + size], system / f"set.{number:06d}"
        coord = np.stack([s.positions[real].reshape(-1) for s in part])
        if not folder.exists():
            write_set(folder, {"coord": coord} | inputs(part, real) | labels(potential.evaluate_many(part), real))
        elif not np.array_equal(np.load(folder / "coord.npy"), coord):
            raise FileError(f"{folder}: holds other structures than those to label; name a new folder")
        yield len(part)


def inputs(frames: Sequence[Structure], real: np.ndarray) -> Arrays:
    """Cells and parameters of frames, as files have them."""
    values = {
        "box": [s.cell if s.pbc.all() else None for s in frames],
        "fparam": [s.fparam for s in frames],
        "aparam": [None if s.aparam is None else s.aparam[real] for s in frames],
    }
    return {k: np.stack([x.reshape(-1) for x in v if x is not None]) for k, v in values.items() if v[0] is not None}


def labels(predictions: Sequence[Prediction], real: np.ndarray) -> Arrays:
    """Predictions under the names that labels have in files."""
    rows: dict[str, list[np.ndarray]] = {}
    for p in predictions:
        for name, value in ({"energy": p.energy, "force": p.forces, "virial": p.virial} | p.outputs).items():
            if value is not None and (name in LABELS or not name.startswith("atom_")):
                per_atom = name == "force" or name.startswith("atom_")
                rows.setdefault(name, []).append((value[0][real] if per_atom else value[0]).reshape(-1))
    return {name: np.stack(values) for name, values in rows.items()}


def write_set(folder: Path, arrays: Arrays) -> None:
    """A set of a system, which is there with all its files or not at all."""
    with staged(folder) as new:
        new.mkdir()
        for name, value in arrays.items():
            np.save(new / f"{name}.npy", value)
