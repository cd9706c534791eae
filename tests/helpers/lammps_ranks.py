"""Run by MPI: how far LAMMPS on 1 to 4 processes is from the library, as JSON.

mpirun -np 4 python lammps_ranks.py torch
"""

import json
import sys
import time
from typing import Any

import numpy as np

from dpmodel.engines.lammps import attach
from lammps_systems import MPI, System, expected, gathered, lammps_with, local, potential, pressure, stress_of

# Eight atoms at most, of which every process sees most: sizes are rounded to the same few, and JAX compiles once.
SYSTEMS = {
    "triclinic": System.random(8, [[4.2, 0, 0], [1.8, 4.2, 0], [-1.6, 1.2, 4.2]], seed=1),
    "orthogonal": System.random(8, np.diag([4.2, 4.5, 4.9])),
    "smaller than the cutoff": System.random(3, np.diag([3.3, 3.4, 3.5]), seed=2),
    "processes without atoms": System.random(7, np.diag([5.0, 5.0, 40.0]), seed=3, inside=np.diag([5.0, 5.0, 4.5])),
}
LARGER = {
    "long": System.random(60, np.diag([5.0, 5.5, 24.0]), seed=4),
    "long and triclinic": System.random(60, [[5.0, 0, 0], [2.2, 5.5, 0], [-2.4, 2.6, 24.0]], seed=5),
}


def deviations(name: str, backend: str, comm: Any) -> dict[str, float] | None:
    """Largest differences of one system from the library on the processes of ``comm``."""
    system = (SYSTEMS | LARGER)[name]
    lmp = lammps_with(system, comm, setup="processors 1 1 *" if "without" in name else "")
    attach(lmp, [potential(backend)], ["O", "H"])
    lmp.commands_string("compute e all pe/atom\ncompute s all stress/atom NULL virial\nrun 0")
    arrays = {"f": local(lmp, "f"), "e": local(lmp, "e", "vector"), "s": local(lmp, "s", "array")}
    found, energy, stress = gathered(lmp, comm, **arrays), lmp.get_thermo("pe"), pressure(lmp)
    atoms = comm.gather((lmp.extract_setting("nlocal"), lmp.extract_setting("nghost")))
    if found is None:
        return None
    p = expected(system, atom_virial=True)
    volume = abs(np.linalg.det(system.cell))
    right = stress_of(p.virial[0], volume, lmp)
    split = [stress_of(0.5 * (v + v.T), -1.0, lmp) for v in p.atom_virial[0]]
    return {
        "force": np.abs(found["f"] - p.forces[0]).max(),
        "energy": abs(energy - p.energy[0]),
        "atomic energy": np.abs(found["e"] - p.atom_energy[0]).max(),
        "pressure": np.abs(stress - right).max() / np.abs(right).max(),
        "atomic stress": np.abs(found["s"] - split).max() / np.abs(split).max(),
        "processes without atoms": sum(local == 0 for local, _ in atoms),
        "processes that see none": sum(local + ghost == 0 for local, ghost in atoms),
        "size": np.abs(p.forces).max(),
    }


def main() -> None:
    world, name = MPI.COMM_WORLD, sys.argv[1]
    found: dict[str, dict[str, float]] = {}
    for size in (4, 3, 2, 1):
        comm = world.Split(int(world.rank < size))
        for system in (SYSTEMS | LARGER if name == "numpy" else SYSTEMS) if world.rank < size else ():
            result = deviations(system, name, comm)
            if result is not None:
                found[f"{system}, {size}"] = {key: float(value) for key, value in result.items()}
        wait(world)
    if world.rank == 0:
        print(json.dumps(found))


def wait(comm: Any) -> None:
    """For all others, without keeping a core busy as MPI's own waiting does."""
    arrived = comm.Ibarrier()
    while not arrived.Test():
        time.sleep(0.02)


if __name__ == "__main__":
    main()
