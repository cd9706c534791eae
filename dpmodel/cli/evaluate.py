"""Energies, forces and stress of structures.

They are written as extended XYZ, a table goes to standard error.

Examples:
    dpmodel eval model.dp water.xyz -o out.xyz --backend torch
"""

import sys
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from dpmodel.cli.frames import read_structures, structure_of
from dpmodel.cli.options import Backend, Device, Head, Index, Model, Precision, Trust, Uncertainty, console
from dpmodel.data.xyz import Atoms, xyz_text
from dpmodel.errors import InputError
from dpmodel.io.files import replacing
from dpmodel.potential import Potential, load
from dpmodel.prediction import Prediction, stress_of

VOIGT = [0, 4, 8, 5, 2, 1]  # xx, yy, zz, yz, xz, xy
GPA = 160.21766208  # of an eV/angstrom^3


def main(
    model: Model,
    structure: Annotated[Path, typer.Argument(help="Extended XYZ; with ASE anything it reads.")],
    index: Index = ":",
    form: Annotated[
        str | None, typer.Option("--format", help="ASE's name of the file's format, if the file does not show it.")
    ] = None,
    head: Head = None,
    output: Annotated[str, typer.Option("--output", "-o", help="File .xyz or .extxyz; - for standard output.")] = "-",
    uncertainty: Uncertainty = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse atoms with more neighbors than the model keeps.")
    ] = False,
    backend: Backend = "numpy",
    device: Device = None,
    precision: Precision = None,
    trust: Trust = False,
) -> None:
    if output != "-" and not output.lower().endswith((".xyz", ".extxyz")):
        raise InputError(f"{output}: results are written as extended XYZ: expected a name ending in .xyz or .extxyz")
    potential = load(model, backend, head=head, device=device, precision=precision, strict=strict, trusted=trust)
    evaluate_file(potential, structure, output, index, console, uncertainty, form)


def evaluate_file(
    potential: Potential,
    structure: Path,
    output: str,
    index: str,
    console: Console,
    uncertainty: bool = False,
    form: str | None = None,
) -> None:
    """Write extended XYZ with the predictions to ``output``, and a table to ``console``."""
    frames = read_structures(structure, index, form)
    structures = [structure_of(atoms, f"{structure}, frame {i}", potential) for i, atoms in enumerate(frames)]
    try:
        predictions = potential.evaluate_many(structures, uncertainty=uncertainty)
    except InputError as error:
        raise InputError(f"{structure}: {error}") from None
    results = [with_results(atoms, p) for atoms, p in zip(frames, predictions, strict=True)]
    text = as_xyz(results)
    if output == "-":
        sys.stdout.write(text)
    else:
        with replacing(output) as file:
            file.write(text.encode())
    console.print(table(frames, predictions))


def as_xyz(frames: list[Any]) -> str:
    """Frames as extended XYZ: by ASE, if they are ASE's."""
    if isinstance(frames[0], Atoms):
        return xyz_text(frames)
    import ase.io

    text = StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


def with_results(atoms: Any, p: Prediction) -> Any:
    """A copy of ``atoms`` that carries the prediction: energy, energies, forces and stress as ASE defines them."""
    done = atoms.copy()
    for name, value in p.outputs.items():  # tensors as rows of numbers: extended XYZ has no more axes
        if name.startswith("atom_"):
            done.arrays[name] = value[0].reshape(len(done), -1)
        else:
            done.info[name] = value[0].reshape(-1)
    if p.energy is None or p.atom_energy is None or p.forces is None or p.virial is None:
        return done
    results: dict[str, Any] = {"energy": float(p.energy[0]), "energies": p.atom_energy[0], "forces": p.forces[0]}
    stress = stress_of(p.virial[0], np.asarray(atoms.cell))
    if stress is not None:
        results["stress"] = stress if isinstance(done, Atoms) else stress.ravel()[VOIGT]
    if p.energy_uncertainty is not None and p.atom_uncertainty is not None:
        done.info["energy_uncertainty"] = float(p.energy_uncertainty[0])
        done.arrays["atom_uncertainty"] = p.atom_uncertainty[0]
    if isinstance(done, Atoms):
        done.arrays |= {name: results.pop(name) for name in ("energies", "forces")}
        done.info |= results
        return done
    from ase.calculators.singlepoint import SinglePointCalculator

    done.calc = SinglePointCalculator(done, **results)
    return done


def table(frames: list[Any], predictions: list[Prediction], most: int = 12) -> Table:
    """A line a frame, the first ``most``."""
    lines = Table(box=None, header_style="bold")
    for name in ("frame", "formula", *_cells(frames[0], predictions[0])):
        lines.add_column(name, justify="right")
    for i, (atoms, p) in enumerate(zip(frames[:most], predictions, strict=False)):
        lines.add_row(str(i), atoms.get_chemical_formula(), *_cells(atoms, p).values())
    if len(frames) > most:
        lines.add_row("...", f"{len(frames) - most} more")
    return lines


def _cells(atoms: Any, p: Prediction) -> dict[str, str]:
    """The cells of a frame's row, by the heads of the columns."""
    if p.energy is None or p.forces is None or p.virial is None:
        return {name: np.array2string(v[0], precision=5, threshold=9, edgeitems=2) for name, v in p.outputs.items()}
    pressure = np.trace(p.virial[0]) / (3.0 * atoms.get_volume()) * GPA if all(atoms.pbc) else None
    uncertainty = {} if p.energy_uncertainty is None else {"±": f"{p.energy_uncertainty[0]:.4f}"}
    return {
        "energy (eV)": f"{p.energy[0]:.6f}",
        **uncertainty,
        "per atom": f"{p.energy[0] / len(atoms):.6f}",
        "largest force (eV/Å)": f"{np.linalg.norm(p.forces[0], axis=1).max():.4f}",
        "pressure (GPa)": "-" if pressure is None else f"{pressure:.3f}",
    }
