"""DPA-2 as an ASE calculator.

    from dpmodel.interfaces.ase import DPCalculator
    atoms.calc = DPCalculator("water.dp", backend="torch")

i-PI and OpenMM-ML accept ASE calculators as they are.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from dpmodel.data.graph import build_graph, candidates
from dpmodel.data.neighbors import Pairs
from dpmodel.data.structure import Structure
from dpmodel.errors import InputError
from dpmodel.evaluator import Prediction, Wants
from dpmodel.interfaces.deviation import force_deviation, summary, virial_deviation
from dpmodel.interfaces.once import Once
from dpmodel.potential import Potential, load

Source = str | PathLike[str] | Potential


class DPCalculator(Calculator):
    """Energy, forces and stress of one model, or of several with the deviation between them.

    Parameters
    ----------
    model : path, Potential, or a list of them
        With several, the first one drives and the others tell how far they agree: ``results["deviation"]``.
    backend, device, precision, compile
        As for ``dpmodel.load``; for models given as paths.
    skin : float
        Neighbours are searched this much (angstrom) beyond the cutoff, and again only when an atom has moved half as
        far.  The trajectory is the same for every skin.

    Results: ``energy``, ``free_energy`` (eV), ``energies`` (eV), ``forces`` (eV/angstrom), ``stress`` and ``stresses``
    (eV/angstrom^3, ASE's sign and order; for cells that are periodic in all directions), ``descriptor`` (n, dim).
    """

    implemented_properties = [  # noqa: RUF012  as ASE declares it
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
        "descriptor",
    ]

    def __init__(
        self,
        model: Source | Sequence[Source],
        *,
        backend: str = "numpy",
        device: str | None = None,
        precision: str | None = None,
        compile: bool | None = None,
        skin: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if skin < 0:
            raise InputError(f"skin should be at least 0 angstrom, got {skin}")
        given = [model] if isinstance(model, str | PathLike | Potential) else list(model)
        if not given:
            raise InputError("there is no model")
        self.potentials = [
            m if isinstance(m, Potential) else load(m, backend, device=device, precision=precision, compile=compile)
            for m in given
        ]
        for potential in self.potentials:
            potential.expect_forces()
        self.skin = skin
        self.searches = 0
        self._once = Once()
        self._searched: Structure | None = None
        self._pairs: list[Pairs] = []

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; energy, forces and stress come together."""
        super().calculate(atoms, properties, system_changes)
        wants = Wants.of(forces=True, atom_virial="stresses" in properties, hessian=False)
        predictions = [self._predict(p, self._structure(p), wants) for p in self.potentials]
        self.results = results(predictions[0], self.atoms)
        if len(predictions) > 1:
            self.results["deviation"] = deviation(predictions)
        if "descriptor" in properties:
            lead, frame = self.potentials[0], self._structure(self.potentials[0])
            self.results["descriptor"] = lead.describe(frame.positions, frame.types, frame.cell, pbc=frame.pbc)[0]

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
        """Pairs that may be neighbours, from the last search if that still holds."""
        if not self._holds(frame):
            reach = max(p.evaluator.selection.cutoff for p in self.potentials) + self.skin
            self._pairs, self._searched = candidates([frame], reach), frame
            self.searches += 1
        return self._pairs

    def _holds(self, frame: Structure) -> bool:
        old = self._searched
        if old is None or len(old.types) != len(frame.types) or not np.array_equal(old.pbc, frame.pbc):
            return False
        if (old.cell is None) != (frame.cell is None) or np.any((old.types < 0) != (frame.types < 0)):
            return False
        if old.cell is not None and frame.cell is not None and not np.array_equal(old.cell, frame.cell):
            return False
        moved = np.linalg.norm(frame.positions - old.positions, axis=1).max()
        return bool(moved < 0.5 * self.skin)


def results(p: Prediction, atoms: Any) -> dict[str, Any]:
    """The results of a frame in ASE's names, units and signs."""
    found: dict[str, Any] = {}
    for name, value in (("energy", p.energy), ("energies", p.atom_energy), ("forces", p.forces)):
        if value is not None:
            found[name] = value[0]
    found["energy"] = found["free_energy"] = float(found["energy"])
    if all(atoms.pbc) and p.virial is not None:
        found["stress"] = _stress(p.virial[0], atoms.get_volume())
        if p.atom_virial is not None:
            found["stresses"] = _stress(p.atom_virial[0], atoms.get_volume())
    return found


def _stress(virial: np.ndarray, volume: float) -> np.ndarray:
    """(..., 3, 3) eV to (..., 6) eV/angstrom^3 in ASE's order; the virial of an atom is made symmetric."""
    return full_3x3_to_voigt_6_stress(-0.5 * (virial + np.swapaxes(virial, -1, -2)) / volume)


def deviation(predictions: Sequence[Prediction]) -> dict[str, float]:
    """How far models disagree on a frame: forces in eV/angstrom, virial in eV per atom."""
    forces = np.stack([p.forces[0] for p in predictions if p.forces is not None])
    virials = np.stack([p.virial[0] for p in predictions if p.virial is not None])
    return summary(force_deviation(forces), virial_deviation(virials, forces.shape[1]))
