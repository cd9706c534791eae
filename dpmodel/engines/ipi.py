"""DPA-2 for i-PI: path integrals, replica exchange, free energies.

In i-PI's input file, with the path of this file (``python -m dpmodel.engines.ipi`` prints it):

    <ffdirect name="dpa2">
      <pes> custom </pes>
      <pes_path> .../dpmodel/engines/ipi.py </pes_path>
      <parameters> {template: water.xyz, model: water.dp, backend: torch} </parameters>
    </ffdirect>
"""

import json
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress
from ipi.pes._ase import ASEDriver
from ipi.utils.units import unit_to_internal

from dpmodel.engines.ase import DPCalculator
from dpmodel.errors import InputError
from dpmodel.settings import nearest

__DRIVER_NAME__ = "dpa2"
__DRIVER_CLASS__ = "DPDriver"
OPTIONS = ("verbose", "verbosity")  # i-PI's own


class DPDriver(ASEDriver):
    """Energy, forces and virial of one model, or of the first of several with the deviation between them as extras.

    Parameters
    ----------
    template : str
        A file that ASE reads, with the elements in i-PI's order; positions and cell come from i-PI.
    model : str
        Model file, or several with semicolons between them: i-PI's parameters know no lists.
    backend, head, device, precision : str
        As for ``dpmodel.load``.
    pbc : bool
        Whether i-PI's cell repeats: its large box around a single molecule does not.
    """

    def __init__(
        self,
        template: str,
        model: str,
        backend: str = "numpy",
        head: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        pbc: bool = True,
        **options: Any,
    ) -> None:
        for name in set(options) - set(OPTIONS):
            names = ("model", "backend", "head", "device", "precision", "pbc")
            raise InputError(f"parameters of dpa2: {name!r} is none of {', '.join(names)}{nearest(name, names)}")
        self.calculator = DPCalculator(
            [path.strip() for path in model.split(";")], backend=backend, head=head, device=device, precision=precision
        )
        self.pbc = pbc
        super().__init__(template, **options)

    def check_parameters(self) -> None:
        """Called once, by i-PI."""
        super().check_parameters()
        self.template_ase.pbc = self.pbc

    def compute_structure(self, cell: np.ndarray, pos: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, str]:
        """(energy, forces, virial, extras) in i-PI's units, of a cell (vectors are columns) and positions in i-PI's."""
        rows, positions = self.convert_units(cell, pos)
        atoms = self.template_ase.copy()
        if len(positions) != len(atoms):
            raise InputError(f"{self.template} has {len(atoms)} atoms, but i-PI simulates {len(positions)}")
        atoms.set_cell(rows)
        atoms.positions[:] = positions
        self.calculator.calculate(atoms)
        results = self.calculator.results
        stress = voigt_6_to_full_3x3_stress(results["stress"])
        # i-PI's own unit of force differs from its unit of energy over length in the eighth digit
        energy, length = unit_to_internal("energy", "electronvolt", 1.0), unit_to_internal("length", "angstrom", 1.0)
        virial = -stress * atoms.get_volume()
        extras = json.dumps(results["deviation"]) if "deviation" in results else ""
        return results["energy"] * energy, results["forces"] * (energy / length), virial * energy, extras


if __name__ == "__main__":
    print(__file__)  # noqa: T201
