"""Engines and potentials that tests share: programs are compiled once a process."""

import os
from functools import cache
from typing import Any

from dpmodel.backend import Engine, backend
from dpmodel.capabilities import BACKENDS
from dpmodel.potential import Potential
from reference_cases import case

CHOSEN = os.environ.get("DPMODEL_BACKENDS", " ".join(BACKENDS)).replace(",", " ").split()


@cache
def engine_of(name: str) -> Engine:
    """The backend as ``dpmodel.load`` would take it, but on the CPU."""
    return backend(name).engine("cpu")


def potential_of(engine: Engine, name: str) -> Any:
    """The ``Potential`` of a reference case on ``engine``; as Any, for its predictions have fields that may be None."""
    return _potential(engine.name, name)


@cache
def _potential(backend_name: str, name: str) -> Potential:
    return Potential(case(name).file, engine_of(backend_name))
