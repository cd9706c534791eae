"""The same water in ASE: ``python ase_md.py nve --steps 5000 --backend torch``, or ``npt``."""

import argparse
from pathlib import Path
from typing import Any

from ase import units
from ase.io import Trajectory, read
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet

from dpmodel.engines.ase import DPCalculator

HERE = Path(__file__).parent
STEP = 0.5 * units.fs


def dynamics(ensemble: str, atoms: Any) -> Any:
    """At constant energy, or at 300 K and -3.5 kbar, which keeps GFN1-xTB's water near the densities of its data."""
    if ensemble == "nve":
        return VelocityVerlet(atoms, STEP)
    return IsotropicMTKNPT(
        atoms, STEP, temperature_K=300, pressure_au=-3.5e8 * units.Pascal, tdamp=50 * units.fs, pdamp=3000 * units.fs
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ensemble", choices=["nve", "npt"])
    parser.add_argument("--model", type=Path, default=HERE.parent / "water.dp")
    parser.add_argument("--backend", default="torch", help="numpy torch jax paddle")
    parser.add_argument("--steps", type=int, default=5000, help="of 0.5 fs")
    given = parser.parse_args()

    atoms: Any = read("water.xyz")
    atoms.calc = DPCalculator(given.model, backend=given.backend)
    simulation = dynamics(given.ensemble, atoms)
    with open(f"ase_{given.ensemble}.txt", "w") as columns, Trajectory(f"ase_{given.ensemble}.traj", "w") as frames:
        columns.write("# ps K eV eV A^3\n")

        def write() -> None:
            time, potential = simulation.get_time() / (1000 * units.fs), atoms.get_potential_energy()
            total = potential + atoms.get_kinetic_energy()
            kelvin = atoms.get_temperature() * len(atoms) / (len(atoms) - 1)  # the center of mass is at rest
            row = time, kelvin, potential, total, atoms.get_volume()
            columns.write(" ".join(f"{value:.10g}" for value in row) + "\n")

        simulation.attach(write, interval=10)
        simulation.attach(lambda: frames.write(atoms), interval=20)
        simulation.run(given.steps)


if __name__ == "__main__":
    main()
