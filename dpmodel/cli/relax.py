"""Relaxed structures, many at once.

Each goes to its own minimum; those on their way are evaluated together. They are written as extended XYZ, a table
goes to standard error.

Examples:
    dpmodel relax model.dp molecules.xyz -o relaxed.xyz --backend torch
    dpmodel relax model.dp a.cif b.cif -o relaxed.xyz --cell --pressure 1.5
"""

from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dpmodel.cli.evaluate import with_results
from dpmodel.cli.frames import read_structures
from dpmodel.cli.options import Backend, Device, Force, Head, Index, Model, Trust, console
from dpmodel.errors import InputError
from dpmodel.io.files import expect_free, replacing
from dpmodel.potential import load
from dpmodel.relax import Relaxation


def main(
    model: Model,
    structures: Annotated[list[Path], typer.Argument(help="Anything ASE reads: xyz, cif, POSCAR, traj, ...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz file.")],
    index: Index = ":",
    head: Head = None,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cells, too.")] = False,
    pressure: Annotated[float, typer.Option("--pressure", help="GPa, with --cell.")] = 0.0,
    max_force: Annotated[float, typer.Option("--fmax", min=0, help="Done when no force is longer, eV/Å.")] = 0.01,
    max_steps: Annotated[int, typer.Option("--steps", min=0, help="The most steps of a structure.")] = 1000,
    force: Force = False,
    backend: Backend = "numpy",
    device: Device = None,
    trust: Trust = False,
) -> None:
    if pressure and not cell:
        raise InputError("--pressure acts on the cell: give --cell, too")
    expect_free(output, force)
    frames = [atoms for path in structures for atoms in read_structures(path, index)]
    potential = load(model, backend, head=head, device=device, trusted=trust)
    done = potential.relax_many(
        frames, cell=cell, max_force=max_force, max_steps=max_steps, pressure=pressure, progress=True
    )
    write(output, frames, done, force)
    console.print(table(frames, done))
    console.print(f"{sum(r.converged for r in done)} of {len(done)} relaxed; written to {output}", markup=False)


def write(output: Path, frames: list[Any], done: list[Relaxation], force: bool) -> None:
    """Extended XYZ of the relaxed structures with energies, forces and stress."""
    import ase.io

    images = []
    for atoms, relaxed in zip(frames, done, strict=True):
        image = atoms.copy()
        image.set_cell(relaxed.structure.cell if relaxed.structure.cell is not None else image.cell)
        image.positions = relaxed.structure.positions
        image.info |= {"steps": relaxed.steps, "converged": relaxed.converged}
        images.append(with_results(image, relaxed.prediction))
    text = StringIO()
    ase.io.write(text, images, format="extxyz")
    with replacing(output, force) as file:
        file.write(text.getvalue().encode())


def table(frames: list[Any], done: list[Relaxation], most: int = 12) -> Table:
    """A line a structure: the first ``most``, those that are not done first."""
    lines = Table(box=None, header_style="bold")
    for name in ("structure", "formula", "steps", "energy, eV", "fmax, eV/Å", ""):
        lines.add_column(name, justify="right")
    order = sorted(range(len(done)), key=lambda i: (done[i].converged, i))
    for i in order[:most]:
        r = done[i]
        cells = f"{r.prediction.energy[0]:.6f}", f"{r.max_force:.4f}", "" if r.converged else "not relaxed"
        lines.add_row(str(i), frames[i].get_chemical_formula(), str(r.steps), *cells)
    if len(done) > most:
        lines.add_row("...")
    return lines
