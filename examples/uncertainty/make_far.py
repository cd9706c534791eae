"""Make far.xyz: water unlike the data of ../water, labeled with the same method, GFN1-xTB.

    pip install tblite; OMP_NUM_THREADS=1 python make_far.py      # ten minutes on one free core

Four kinds, ten frames each: the liquid at 1200 K, the liquid at 1.5 g/cm3, cubic ice, and vapor of six molecules.
"""

import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "water"))

from make_data import FRICTION, LABEL_ACCURACY, MOTION_ACCURACY, TIME_STEP, calculator, set_masses, water_box  # noqa: E402

FRAMES, STRIDE, FIRST = 10, 10, 60  # frames of a kind, steps between them and before the first


def ice(edge: float = 6.35, bond: float = 0.98) -> Atoms:
    """Cubic ice, eight molecules: one sublattice gives its protons to two bonds of four, the other to the other two."""
    corners = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) * edge / 4
    bonds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * edge / 4
    along = bonds / np.linalg.norm(bonds[0])
    here = [[c, c + bond * along[0], c + bond * along[1]] for c in corners]
    there = [[c + bonds[0], c + bonds[0] - bond * along[2], c + bonds[0] - bond * along[3]] for c in corners]
    return Atoms("OH2" * 8, np.reshape(here + there, (-1, 3)), cell=[edge] * 3, pbc=True)


def vapor(random: np.random.Generator) -> Atoms:
    """Six molecules, in three pairs, in a box of 12 angstrom."""
    atoms = Atoms(cell=[12.0] * 3, pbc=True)
    for site in np.array([[2, 2, 2], [2, 2, 4.9], [8, 2, 8], [8, 4.9, 8], [4, 8, 6], [6.9, 8, 6]]):
        water = molecule("H2O")
        water.rotate(random.uniform(0, 360), random.normal(size=3))
        water.positions += site - water.positions[0]
        atoms += water
    return atoms


def main() -> None:
    random = np.random.default_rng(7)
    kinds = {
        "hot": (water_box(16, 1.0, random), 1200.0),
        "dense": (water_box(16, 1.5, random), 600.0),
        "ice": (ice(), 200.0),
        "vapor": (vapor(random), 500.0),
    }
    labeled = []
    for kind, (atoms, temperature) in kinds.items():
        set_masses(atoms)
        thermalize_momenta(atoms, temperature_K=temperature, rng=random)
        for frame in range(FRAMES):
            atoms.calc = calculator(MOTION_ACCURACY)
            bath = {"temperature_K": temperature, "friction": FRICTION / units.fs, "fixcm": False, "rng": random}
            Langevin(atoms, TIME_STEP * units.fs, **bath).run(STRIDE if frame else FIRST)
            image = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True, info={"kind": kind})
            image.calc = calculator(LABEL_ACCURACY)
            results = {"energy": image.get_potential_energy(), "forces": image.get_forces()}
            image.calc = SinglePointCalculator(image, **results)
            labeled.append(image)
            print(kind, frame, results["energy"], flush=True)
    ase.io.write(HERE / "far.xyz", labeled, format="extxyz")


if __name__ == "__main__":
    main()
