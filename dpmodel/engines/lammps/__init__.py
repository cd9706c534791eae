"""DPA-2 in LAMMPS: any backend, any number of MPI processes, nothing to compile (docs/simulations.md)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpmodel.engines.lammps.pair import Pair as Pair
    from dpmodel.engines.lammps.pair import attach as attach
    from dpmodel.engines.lammps.pair import install as install

__all__ = ["Pair", "attach", "install"]


def __getattr__(name: str) -> Any:
    """Import LAMMPS and MPI when they are asked for: tables and scripts are read without them."""
    if name not in __all__:
        raise AttributeError(f"module 'dpmodel.engines.lammps' has no attribute {name!r}")
    return getattr(import_module("dpmodel.engines.lammps.pair"), name)
