"""The uncertainty of atomic energies in LAMMPS: a compute, a file, and a limit beyond which a run stops."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpmodel.data.xyz import Atoms, xyz_text
from dpmodel.engines.lammps.deviation import StepFile
from dpmodel.engines.lammps.domain import Domain
from dpmodel.errors import DpmodelError, FileError
from dpmodel.xp import Array

if TYPE_CHECKING:
    from dpmodel.engines.lammps.pair import Pair


def atom_uncertainty(pair: "Pair") -> Array:
    """(n,) standard deviations of the energies of this process' atoms now, in LAMMPS' units, as all processes ask."""
    assert pair.atom_energy is not None
    n = len(pair.atom_energy)
    return pair.potentials[0].evaluator.rigidity.deviation(_rows(pair, pair.domain(n), n)) / pair.energy_unit


def _rows(pair: "Pair", here: Domain, n: int) -> Array:
    """(n, d) the last hidden layer of this process' atoms."""
    return pair.potentials[0].evaluator.last_layer(pair.graph(here, 0), here.positions, here.halo)[:n]


@dataclass
class UncertaintyFile(StepFile):
    """The uncertainties of atomic energies along a trajectory, eV.

    ``limit`` (eV): a larger one stops the run, and the structure is written beside the file.
    """

    subject = "uncertainty"
    limit: float | None = None

    def write(self, step: int, pair: "Pair", here: Domain) -> None:
        """A line, by the first of all processes, which call this together."""
        assert pair.atom_energy is not None
        n, rigidity = len(pair.atom_energy), pair.potentials[0].evaluator.rigidity
        rows = _rows(pair, here, n)
        parts = pair.comm.gather((here.ids[:n], here.types[:n], here.positions[:n], rows))
        self._last = step

        def record() -> None:
            if parts is None:
                return
            ids, types, positions, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = np.argsort(ids)
            each, total = rigidity.deviation(rows[order]), float(rigidity.deviation(rows.sum(axis=0)))
            spread = {"max_sigma": each.max(), "min_sigma": each.min(), "avg_sigma": each.mean(), "sigma": total}
            self.append(step, spread)
            if self.limit is not None and each.max() > self.limit:
                image = _structure(pair, types[order], positions[order])
                image.arrays["atom_uncertainty"] = each
                image.info |= {"step": step, "energy_uncertainty": total}
                self._stop(image, int(ids[order][each.argmax()]))

        pair.host.agreed(record)
        if pair.host.error is not None:
            pair.lmp.lib.lammps_force_timeout(pair.lmp.lmp)

    def _stop(self, image: Atoms, worst: int) -> None:
        path, sigma = Path(f"{self.path}.xyz"), image.arrays["atom_uncertainty"].max()
        try:
            path.write_text(xyz_text([image]), "utf-8")
        except OSError as error:
            raise FileError(f"{path}: cannot write the structure ({error.strerror})") from error
        raise DpmodelError(
            f"step {image.info['step']}: the energy of atom {worst} is uncertain by {sigma:.3g} eV, more than "
            f"max_uncertainty {self.limit:g}; the structure is in {path}"
        )


def _structure(pair: "Pair", types: Array, positions: Array) -> Atoms:
    """All atoms, in angstrom."""
    low, high, xy, yz, xz, periodic, _ = pair.lmp.extract_box()
    cell = np.diag(np.subtract(high, low))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    symbols = [pair.elements[t - 1] or "X" for t in types]
    return Atoms(symbols, positions, cell * pair.length_unit, np.array(periodic, dtype=bool))
