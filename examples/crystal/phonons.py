"""Phonons through phonopy (pip install phonopy): forces of all displaced supercells at once.

    python phonons.py                                # writes phonons.png
    python phonons.py mine.cif --model mine.dp --supercell 3

Bands along Γ X M Γ of the cell, and the density of states.  The structure should be relaxed (dpmodel relax --cell).
"""

import argparse
from itertools import pairwise
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from dpmodel import Potential, load

HERE = Path(__file__).parent
PATH = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0, 0, 0]])
LABELS = ["Γ", "X", "M", "Γ"]


def phonons(potential: Potential, atoms: Atoms, supercell: int, distance: float) -> Phonopy:
    """Force constants from displacements by ``distance`` (angstrom)."""
    cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell[:])
    crystal = Phonopy(cell, np.diag([supercell] * 3), primitive_matrix=np.eye(3))
    crystal.generate_displacements(distance=distance)
    moved = [Atoms(c.symbols, c.positions, cell=c.cell, pbc=True) for c in crystal.supercells_with_displacements]
    crystal.forces = np.array([p.forces[0] for p in potential.evaluate_many(moved, progress=True)])
    crystal.produce_force_constants()
    crystal.symmetrize_force_constants()
    return crystal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path, nargs="?", default=HERE / "ice.xyz")
    parser.add_argument("--model", type=Path, default=HERE.parent / "water" / "water.dp")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--supercell", type=int, default=2)
    parser.add_argument("--distance", type=float, default=0.01, help="angstrom")
    parser.add_argument("--mesh", type=int, default=8)
    parser.add_argument("--output", type=Path, default=HERE / "phonons.png")
    options = parser.parse_args()
    atoms = ase.io.read(options.structure)
    crystal = phonons(load(options.model, options.backend), atoms, options.supercell, options.distance)
    crystal.run_mesh([options.mesh] * 3)
    crystal.run_total_dos()
    steps = np.linspace(0, 1, 31)[:, None]
    crystal.run_band_structure([a + steps * (b - a) for a, b in pairwise(PATH)])
    at_gamma = np.sort(crystal.run_qpoints([[0, 0, 0]]).frequencies[0])
    every = crystal.mesh.frequencies
    print(f"{len(crystal.supercells_with_displacements)} supercells of {len(crystal.supercell)} atoms")
    print(f"at Γ: acoustic {at_gamma[:3].round(3)}, highest {at_gamma[-1]:.2f} THz")
    print(f"lowest anywhere {every.min():.2f} THz{' (unstable: an imaginary frequency)' if every.min() < -0.1 else ''}")
    draw(crystal, options.output)
    print(f"wrote {options.output}")


def draw(crystal: Phonopy, path: Path) -> None:
    from matplotlib.figure import Figure

    bands, dos = crystal.band_structure, crystal.total_dos
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for x, y in zip(bands.distances, bands.frequencies, strict=True):
        left.plot(x, y, color="C0", linewidth=0.8)
    ticks = [bands.distances[0][0], *(x[-1] for x in bands.distances)]
    left.set(xticks=ticks, xticklabels=LABELS, ylabel="frequency (THz)", xlim=(ticks[0], ticks[-1]))
    for tick in ticks:
        left.axvline(tick, color="0.8", linewidth=0.8)
    left.axhline(0, color="0.8", linewidth=0.8)
    right.plot(dos.dos, dos.frequency_points, color="C0", linewidth=0.8)
    right.set(xlabel="density of states (1/THz)")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
