"""Run LAMMPS with pair_style dpmodel.

The script has "pair_style dpmodel model.dp backend torch" in it; docs/simulations.md says more.
All switches of LAMMPS are understood.

Examples:
    dpmodel lammps -in in.water -var T 300
    mpirun -np 4 dpmodel lammps -in in.water
"""

import typer

from dpmodel.engines.cores import share_cores
from dpmodel.errors import BackendError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def main(context: typer.Context) -> None:
    try:
        share_cores()  # before LAMMPS starts its threads
        from dpmodel.engines.lammps.launch import run
    except ImportError as error:
        raise BackendError(f"this needs LAMMPS and MPI ({error}): pip install 'dpmodel[lammps]'") from error
    run(context.args)
