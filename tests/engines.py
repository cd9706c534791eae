"""Engines and potentials that tests share: programs are compiled once a process."""

import os
from functools import cache

from dpmodel.backend import Engine, backend
from dpmodel.capabilities import BACKENDS
from dpmodel.potential import Potential
from reference_cases import case

CHOSEN = os.environ.get("DPMODEL_BACKENDS", " ".join(BACKENDS)).replace(",", " ").split()


@cache
def engine_of(name: str) -> Engine:
    """The backend as ``dpmodel.load`` would take it, but on the CPU."""
    return backend(name).engine("cpu")


@cache
def potential_of(engine: Engine, name: str) -> Potential:
    """A reference case on ``engine``."""
    return Potential(case(name).file, engine)
