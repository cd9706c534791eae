"""DPA-2 as an ASE calculator.

    from dpmodel.engines.ase import DPCalculator
    atoms.calc = DPCalculator("water.dp", backend="torch")

i-PI and OpenMM-ML accept ASE calculators as they are.  Programs that have imported this module find it by the name
"dpmodel" through ``ase.calculators.calculator.get_calculator_class``.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, register_calculator_class
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import fs

from dpmodel.data.graph import build_graph, candidates
from dpmodel.data.neighbors import Pairs
from dpmodel.data.structure import Structure
from dpmodel.engines.deviation import force_deviation, summary, virial_deviation
from dpmodel.engines.warn_once import WarnOnce
from dpmodel.errors import InputError
from dpmodel.evaluator import Wants
from dpmodel.potential import Potential, load
from dpmodel.prediction import HeatFlux, Prediction, stress_of

Source = str | PathLike[str] | Potential


UNCERTAINTIES = ("energy_uncertainty", "atom_uncertainty")  # eV: of a model that 'dpmodel calibrate' made


class DPCalculator(Calculator):
    """Energy, forces and stress of one model, or of several with the deviation between them.

    Parameters
    ----------
    model : path, Potential, or a list of them
        With several of energies, the first one drives and the others tell how far they agree:
        ``results["deviation"]``.  Models of other heads add what they predict, ``results["dipole"]`` and the like.
    backend, head, device, precision, compile, strict
        As for ``dpmodel.load``; for models given as paths.
    skin : float
        Neighbors are searched this much (angstrom) beyond the cutoff, and again only when atoms may have come from
        beyond that, moved by themselves or with the cell.  The trajectory is the same for every skin.

    Results: ``energy``, ``free_energy`` (eV), ``energies`` (eV), ``forces`` (eV/angstrom), ``stress`` and ``stresses``
    (eV/angstrom^3, ASE's sign and order; where there is a cell, periodic or not), ``descriptor`` (n, dim).  Models with
    frame or atomic parameters take them from ``atoms.info["fparam"]`` and ``atoms.arrays["aparam"]``.
    """

    implemented_properties = [  # noqa: RUF012  as ASE declares it
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
        "descriptor",
        *UNCERTAINTIES,
    ]

    def __init__(
        self,
        model: Source | Sequence[Source],
        *,
        backend: str = "numpy",
        head: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        compile: bool | None = None,
        strict: bool = False,
        skin: float = 1.0,
    ) -> None:
        super().__init__()
        if skin < 0:
            raise InputError(f"skin should be at least 0 Å, got {skin}")
        models = [model] if isinstance(model, str | PathLike | Potential) else list(model)
        if not models:
            raise InputError("there is no model")
        every = [
            m
            if isinstance(m, Potential)
            else load(m, backend, head=head, device=device, precision=precision, compile=compile, strict=strict)
            for m in models
        ]
        self.potentials, self.others = _by_head(every)
        if not self.potentials:
            self.implemented_properties = ["descriptor"]
        self.implemented_properties = [
            *self.implemented_properties,
            *(p.settings.fitting_net.output for p in self.others),
        ]
        self.skin = skin
        self.cutoff = max(potential.evaluator.selection.cutoff for potential in every)
        self.searches = 0
        self._once = WarnOnce()
        self._searched: Structure | None = None
        self._pairs: list[Pairs] = []

    def set(self, **changes: Any) -> dict[str, Any]:
        """Refuse ``changes``: what a calculator does is settled when it is made."""
        if changes:
            raise InputError(f"a DPCalculator cannot change its {', '.join(changes)}: make another one")
        return {}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """The changes since ``results`` were computed: for ASE the atoms, here their parameters, too."""
        changes: list[str] = super().check_state(atoms, tol)
        if not changes and not np.array_equal(_parameters(self.atoms), _parameters(atoms)):
            changes.append("parameters")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; energy, forces and stress come together."""
        super().calculate(atoms, properties, system_changes)
        uncertain = any(name in properties for name in UNCERTAINTIES)
        wants = Wants.of(forces=True, atom_virial="stresses" in properties, hessian=False, uncertainty=uncertain)
        predictions = [self._predict(p, self._structure(p), wants) for p in self.potentials]
        self.results = results(predictions[0], self.atoms) if predictions else {}
        if len(predictions) > 1:
            self.results["deviation"] = deviation(predictions)
        for other in self.others:
            outputs = self._predict(other, self._structure(other), Wants()).outputs
            self.results |= {name: value[0] for name, value in outputs.items()}
        if "descriptor" in properties:
            lead = (*self.potentials, *self.others)[0]
            frame = self._structure(lead)
            self.results["descriptor"] = lead.describe(frame.positions, frame.types, frame.cell, pbc=frame.pbc)[0]

    def heat_flux(self, atoms: Atoms) -> HeatFlux:
        """The heat flux of ``atoms`` with their velocities and masses by the first model; eV angstrom/fs.

        See ``Potential.heat_flux``.  ``DPCalculator.results`` stay as they are.
        """
        lead = self.potentials[0]
        frame = lead.structure(atoms)
        speeds = atoms.get_velocities() * fs
        return lead.evaluator.heat_flux([frame], speeds[None], atoms.get_masses()[None])

    def export_properties(self) -> Properties:
        """``results`` without those that ASE has no name for."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _structure(self, potential: Potential) -> Structure:
        return potential.structure(self.atoms)

    def _predict(self, potential: Potential, frame: Structure, wants: Wants) -> Prediction:
        evaluator = potential.evaluator
        with self._once():
            graph = build_graph([frame], evaluator.selection, pairs=self._neighbors(frame), strict=potential.strict)
        return evaluator.predictions([frame], graph, wants)[0]

    def _neighbors(self, frame: Structure) -> list[Pairs]:
        """Pairs that may be neighbors, from the last search if that still holds."""
        if not self._holds(frame):
            self._pairs, self._searched = candidates([frame], self.cutoff + self.skin), frame
            self.searches += 1
        return self._pairs

    def _holds(self, frame: Structure) -> bool:
        """Whether all that are within the cutoff now were within the reach of the last search.

        Between the two, all atoms have moved with the cell, and each by itself, at most by ``drift``.
        """
        old = self._searched
        if old is None or not np.array_equal(old.types < 0, frame.types < 0) or not np.array_equal(old.pbc, frame.pbc):
            return False
        before, now = _lattice(old), _lattice(frame)
        deformation = np.eye(3) + np.linalg.pinv(before) @ (now - before)
        moved = frame.positions - old.positions @ deformation
        drift = np.linalg.norm(moved - moved.mean(axis=0), axis=1).max()
        shrunk = np.linalg.norm(np.linalg.inv(deformation), 2)
        return bool((self.cutoff + 2.0 * drift) * shrunk <= self.cutoff + self.skin)


register_calculator_class("dpmodel", DPCalculator)


def _by_head(potentials: Sequence[Potential]) -> tuple[list[Potential], list[Potential]]:
    """Those of energies, and the others."""
    energies = [p for p in potentials if p.settings.fitting_net.type == "ener"]
    return energies, [p for p in potentials if p.settings.fitting_net.type != "ener"]


def _lattice(frame: Structure) -> np.ndarray:
    """(k, 3) the vectors that repeat, angstrom."""
    return np.zeros((0, 3)) if frame.cell is None else frame.cell[frame.pbc]


def _parameters(atoms: Any) -> np.ndarray:
    """Frame and atomic parameters in one row."""
    return np.append(atoms.info.get("fparam", ()), atoms.arrays.get("aparam", ()))


def results(p: Prediction, atoms: Any) -> dict[str, Any]:
    """The results of a frame in ASE's names, units and signs."""
    properties: dict[str, Any] = {}
    for name, value in (("energy", p.energy), ("energies", p.atom_energy), ("forces", p.forces)):
        if value is not None:
            properties[name] = value[0]
    properties["energy"] = properties["free_energy"] = float(properties["energy"])
    if p.energy_uncertainty is not None and p.atom_uncertainty is not None:
        properties["energy_uncertainty"] = float(p.energy_uncertainty[0])
        properties["atom_uncertainty"] = p.atom_uncertainty[0]
    for name, virial in (("stress", p.virial), ("stresses", p.atom_virial)):
        stress = None if virial is None else stress_of(virial[0], atoms.cell.array)
        if stress is not None:
            properties[name] = full_3x3_to_voigt_6_stress(stress)
    return properties


def deviation(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The disagreement of models on a frame: forces in eV/angstrom, virial in eV per atom."""
    forces = np.stack([p.forces[0] for p in predictions if p.forces is not None])
    virials = np.stack([p.virial[0] for p in predictions if p.virial is not None])
    return summary(force_deviation(forces), virial_deviation(virials, forces.shape[1]))
