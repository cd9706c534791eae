"""DPA-2 as a force of OpenMM.

from dpmodel.engines.openmm import python_force
symbols = [atom.element.symbol for atom in topology.atoms()]
system.addForce(python_force("water.dp", symbols, backend="torch"))
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import openmm
from openmm import unit

from dpmodel.data.structure import types_of
from dpmodel.engines.warn_once import WarnOnce
from dpmodel.errors import InputError
from dpmodel.potential import Potential, load

NANOMETER = 10.0  # angstrom
KJ_MOL = 1000.0 / 6.02214076e23 / 1.602176634e-19  # eV


def python_force(
    model: str | PathLike[str] | Potential,
    symbols: Sequence[str],
    *,
    backend: str = "numpy",
    device: str | None = None,
    precision: str | None = None,
    periodic: bool = True,
    particles: Sequence[int] = (),
) -> openmm.PythonForce:
    """A force on all particles of a System, or on some.

    Parameters
    ----------
    model : path or Potential
    symbols : sequence of str
        The element of each particle that the force acts on.
    backend, device, precision
        As for ``dpmodel.load``.
    periodic : bool
        Whether the box vectors of the System repeat.
    particles : sequence of int
        Indices of the particles that the model knows and acts on; all of them if there are none.

    Raises
    ------
    DpmodelError
        For a model or an element that cannot be used.
    """
    potential = model if isinstance(model, Potential) else load(model, backend, device=device, precision=precision)
    potential.expect_forces()
    types = types_of(symbols, potential.type_map, "particle")
    force = openmm.PythonForce(Computation(potential, types, periodic), {}, list(particles))
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("DPA-2")
    return force


class Computation:
    """The function that OpenMM calls; it can be copied and pickled, as OpenMM does with forces."""

    def __init__(self, potential: Potential, types: Sequence[int], periodic: bool) -> None:
        self.potential, self.types, self.periodic = potential, types, periodic
        self._once = WarnOnce()

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        """From a State to the energy (kJ/mol) and the forces (n, 3), kJ/mol/nm."""
        x = NANOMETER * state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        box = state.getPeriodicBoxVectors(asNumpy=True) if self.periodic else None
        cell = None if box is None else NANOMETER * box.value_in_unit(unit.nanometer)
        if len(x) != len(self.types):
            raise InputError(f"the force has symbols for {len(self.types)} particles, but acts on {len(x)}")
        with self._once():
            p: Any = self.potential.evaluate(x, self.types, cell)
        return float(p.energy[0]) / KJ_MOL, p.forces[0] / (KJ_MOL / NANOMETER)
