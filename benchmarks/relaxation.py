"""Many small structures relaxed together, and by ASE one by one.

    OMP_NUM_THREADS=1 python benchmarks/relaxation.py --backend torch

Pairs of water molecules, all of them by ``relax_many``, a part of them by ASE's FIRE, whose time is scaled up; then the
same with a box around them, which relaxes, too.  Prints seconds of the processor, and the largest difference in energy
of those that both have relaxed.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms
from ase.build import molecule
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import dpmodel
from dpmodel.engines.ase import DPCalculator

WATER = Path(__file__).parents[1] / "examples" / "water" / "water.dp"


def pairs(count: int, cell: bool) -> list[Atoms]:
    """Two molecules side by side, turned at random; in a box of 2 angstrom more where the cell is to relax."""
    random, every = np.random.default_rng(0), []
    for _ in range(count):
        atoms = Atoms()
        for k in range(2):
            water = molecule("H2O")
            water.rotate(random.uniform(0, 360), random.normal(size=3))
            water.positions += [2.9 * k, 0.0, 0.0]
            atoms += water
        if cell:
            atoms.set_cell([5.8, 3.6, 3.6])
            atoms.pbc = True
        every.append(atoms)
    return every


def main(
    backend: Annotated[str, typer.Option()] = "torch",
    count: Annotated[int, typer.Option()] = 200,
    every: Annotated[int, typer.Option(help="ASE has one in so many.")] = 10,
    max_force: Annotated[float, typer.Option(help="eV/angstrom")] = 0.02,
    steps: Annotated[int, typer.Option(help="The most of a structure.")] = 400,
    model: Annotated[Path, typer.Option()] = WATER,
) -> None:
    potential = dpmodel.load(model, backend)
    for cell in (False, True):
        structures = pairs(count, cell)
        potential.relax_many(structures, cell=cell, max_steps=1)  # what is done once
        start = time.process_time()
        done = potential.relax_many(structures, cell=cell, max_force=max_force, max_steps=steps)
        together, gaps, taken = time.process_time() - start, [0.0], 0
        start = time.process_time()
        for atoms, relaxed in list(zip(structures, done, strict=True))[::every]:
            atoms.calc = DPCalculator(potential)
            FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=max_force, steps=steps)
            taken += relaxed.steps
            if relaxed.converged:
                gaps.append(abs(atoms.get_potential_energy() - relaxed.prediction.energy[0]))
        alone = every * (time.process_time() - start)
        print(
            f"{'with' if cell else 'without'} cell: {sum(r.converged for r in done)} of {count} relaxed, "
            f"{together:.1f} s together, {alone:.1f} s one by one: {alone / together:.1f} times as fast; "
            f"{taken / len(structures[::every]):.0f} steps each; energies differ by {max(gaps):.0e} eV at most"
        )


if __name__ == "__main__":
    typer.run(main)
