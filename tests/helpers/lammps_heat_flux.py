"""Run by MPI: heat flux and uncertainties in LAMMPS on 1 and 2 processes beside the library's, as JSON.

mpirun -np 2 python lammps_heat_flux.py torch
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dpmodel.engines.lammps import attach
from dpmodel.evaluator import KINETIC
from lammps_ranks import SYSTEMS
from lammps_systems import MPI, System, gathered, lammps_with, local, potential

MASSES = np.array([15.999, 1.008])


def numbers(system: System, backend: str, comm: Any, setup: str = "") -> dict[str, tuple[Any, Any]] | None:
    """Of LAMMPS after some steps, and of the library: the flux (6,), eV angstrom/ps; uncertainties (n,) of atoms, eV;
    the largest of them, their mean and that of the energy, from the last line of a file."""
    lmp = lammps_with(system, comm, setup=setup)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(comm.bcast(folder)) / "uncertainty.out"
        attach(lmp, [potential(backend)], ["O", "H"], uncertainty=path, out_freq=2)
        atoms = _run(lmp, comm)
        lines = path.read_text().splitlines() if atoms is not None else []
    if atoms is None:
        return None
    masses = MASSES * lmp.extract_global("mvv2e") * 1e6 / KINETIC  # LAMMPS' constant has eight digits
    frame = atoms["x"], system.types, system.cell
    flux = potential("numpy").heat_flux(*frame, atoms["v"] / 1000.0, masses=masses)
    p = potential("numpy").evaluate(*frame, uncertainty=True)
    u = p.atom_uncertainty[0]
    assert [line.split()[0] for line in lines[1:]] == ["0", "2", "4"]
    return {
        "flux": (atoms["flux"], 1000.0 * np.concatenate([flux.total[0], flux.convective[0]])),
        "uncertainty": (atoms["u"], u),
        "file": (
            np.array(lines[-1].split()[1:], dtype=float),
            np.array([u.max(), u.min(), u.mean(), p.energy_uncertainty[0]]),
        ),
    }


def _run(lmp: Any, comm: Any) -> Any:
    lmp.commands_string(
        """
        velocity all create 600 1 loop all
        timestep 0.0005
        fix 1 all nve
        compute flux all dpmodel/heat/flux
        compute u all dpmodel/uncertainty
        compute largest all reduce max c_u
        thermo_style custom step pe c_flux[1] c_flux[2] c_flux[3] c_largest
        thermo 2
        run 4
        """
    )
    atoms = gathered(lmp, comm, x=local(lmp, "x"), v=local(lmp, "v"), u=local(lmp, "u", "vector"))
    return None if atoms is None else atoms | {"flux": np.array(lmp.extract_compute("flux", 0, 1)[:6])}


def main() -> None:
    world, results = MPI.COMM_WORLD, {}
    for size in range(world.size, 0, -1):
        comm = world.Split(int(world.rank < size))
        for name, system in SYSTEMS.items() if world.rank < size else ():
            every = numbers(system, sys.argv[1], comm, "processors 1 1 *" if "without" in name else "")
            for what, (ours, right) in (every or {}).items():
                results[f"{what}, {name}, {size}"] = [float(np.abs(ours - right).max()), float(np.abs(right).max())]
        world.Barrier()
    if world.rank == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
