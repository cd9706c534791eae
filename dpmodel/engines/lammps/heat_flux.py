"""The exact heat flux of all atoms of a LAMMPS, now: what ``compute dpmodel/heat/flux`` gives."""

from typing import TYPE_CHECKING

import numpy as np

from dpmodel.engines.lammps.compute import HEAT_FLUX
from dpmodel.engines.lammps.plugin import STYLE
from dpmodel.errors import InputError
from dpmodel.xp import Array

if TYPE_CHECKING:
    from dpmodel.engines.lammps.pair import Pair


def heat_flux(pair: "Pair") -> Array:
    """(6,) the flux, then its convective part, as ``compute heat/flux`` has them: LAMMPS' energy times velocity.

    All processes call this together.

    Raises
    ------
    InputError
        Where there is more than the model; for compiled programs of several processes.
    """
    lmp, comm, potential = pair.lmp, pair.comm, pair.potentials[0]
    if lmp.extract_global("pair_style") != STYLE:
        raise InputError(f"compute {HEAT_FLUX} is that of the model alone: it needs 'pair_style {STYLE}', not hybrid")
    assert pair.atom_energy is not None
    if comm.size > 1 and potential.engine.rounds_shapes:
        raise InputError(
            f"compute {HEAT_FLUX}: programs that {potential.engine.name} compiles may exchange with other processes in "
            "any order: use one process, or backend torch"
        )
    n = len(pair.atom_energy)
    here = pair.domain(n)
    v = lmp.numpy.extract_atom("v")[:n].copy() if n else np.zeros((0, 3))
    speeds = np.concatenate([v, np.zeros((here.n - n, 3))])  # a virtual atom rests
    halo = here.halo if comm.size > 1 else None
    virial = potential.evaluator.virial_heat_flux(pair.graph(here, 0), here.positions, speeds, halo)[0]
    kinetic = 0.5 * _masses(pair, n) * lmp.extract_global("mvv2e") * (v**2).sum(axis=1)
    convective = (pair.atom_energy / pair.energy_unit + kinetic) @ v
    own = np.concatenate([virial / pair.energy_unit + convective, convective])
    total = np.empty_like(own)
    comm.Allreduce(own, total)
    return total


def _masses(pair: "Pair", n: int) -> Array:
    """(n,) of the atoms of this process, in LAMMPS' unit."""
    if not n:
        return np.zeros(0)
    extract = pair.lmp.numpy.extract_atom
    if pair.lmp.extract_setting("rmass_flag"):
        return np.array(extract("rmass")[:n])
    return np.array(extract("mass")[extract("type")[:n]])
