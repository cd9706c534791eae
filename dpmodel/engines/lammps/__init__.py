"""DPA-2 in LAMMPS: any backend, any number of MPI processes, nothing to compile (docs/simulations.md)."""

from dpmodel.engines.lammps.pair import Pair, attach, install

__all__ = ["Pair", "attach", "install"]
