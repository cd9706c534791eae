"""Run by MPI: the heat flux in LAMMPS on 1 and 2 processes beside the library's, as JSON.

mpirun -np 2 python lammps_heat_flux.py torch
"""

import json
import sys
from typing import Any

import numpy as np

from dpmodel.engines.lammps import attach
from dpmodel.evaluator import KINETIC
from lammps_ranks import SYSTEMS
from lammps_systems import MPI, System, gathered, lammps_with, local, potential

MASSES = np.array([15.999, 1.008])


def fluxes(system: System, backend: str, comm: Any, setup: str = "") -> tuple[Any, Any] | None:
    """(6,) of LAMMPS after some steps, and of the library, eV angstrom/ps: the sum, then its convective part."""
    lmp = lammps_with(system, comm, setup=setup)
    attach(lmp, [potential(backend)], ["O", "H"])
    lmp.commands_string(
        """
        velocity all create 600 1 loop all
        timestep 0.0005
        fix 1 all nve
        compute flux all dpmodel/heat/flux
        thermo_style custom step pe c_flux[1] c_flux[2] c_flux[3]
        thermo 2
        run 4
        """
    )
    ours = np.array(lmp.extract_compute("flux", 0, 1)[:6])
    atoms = gathered(lmp, comm, x=local(lmp, "x"), v=local(lmp, "v"))
    if atoms is None:
        return None
    masses = MASSES * lmp.extract_global("mvv2e") * 1e6 / KINETIC  # LAMMPS' constant has eight digits
    right = potential("numpy").heat_flux(atoms["x"], system.types, system.cell, atoms["v"] / 1000.0, masses=masses)
    return ours, 1000.0 * np.concatenate([right.total[0], right.convective[0]])


def main() -> None:
    world, results = MPI.COMM_WORLD, {}
    for size in range(world.size, 0, -1):
        comm = world.Split(int(world.rank < size))
        for name, system in SYSTEMS.items() if world.rank < size else ():
            pair = fluxes(system, sys.argv[1], comm, "processors 1 1 *" if "without" in name else "")
            if pair is not None:
                ours, right = pair
                results[f"{name}, {size}"] = [float(np.abs(ours - right).max()), float(np.abs(right).max())]
        world.Barrier()
    if world.rank == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
