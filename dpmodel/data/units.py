"""Units that cannot be: energies, forces and distances contradict each other."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from dpmodel.data.systems import Frame

SAMPLE = 200  # frames that are compared
FEW = 5  # pairs of frames, below which chance may be the reason
RANGE = 0.005, 0.8  # angstrom; water has 0.06
FAR = 1.5  # sums of covalent radii
EXACT = 0.95  # correlation of energy differences with the work of the forces where steps are short
LOOSE = 0.5  # where they are not; work and difference then still agree within a factor of 5
UNITS = {  # energy difference over work, if all the rest is in eV and angstrom
    "energies in kcal/mol": 23.0605,
    "energies in kJ/mol": 96.4853,
    "energies in hartree": 0.0367493,
    "energies in rydberg": 0.0734986,
    "forces in kcal/mol/Å": 0.0433641,
    "forces in kJ/mol/Å": 0.0103643,
    "forces in hartree/bohr": 51.4221,
    "forces in rydberg/bohr": 25.7110,
    "forces in eV/bohr (or hartree/bohr beside hartree)": 1.88973,
    "coordinates in bohr": 0.529177,
    "coordinates in nm": 10.0,
    "gradients in the place of forces": -1.0,
}


def doubts(frames: Iterable[Frame]) -> str:
    """Doubts about the units of ``frames`` of one system, in the order of a trajectory; empty if nothing is.

    Between neighboring frames the energy changes by the work against the forces.  Where frames are too far apart for
    this, the energy should still vary, frames of equal forces and volume compared, as in a thermal ensemble: by the
    force times a small distance.
    """
    both = [f for f in frames if "energy" in f.labels and "force" in f.labels]
    steps = np.array([_step(a, b) for a, b in pairwise(both) if _comparable(a, b)]).reshape(-1, 2)
    work, change = steps.T
    if len(steps) >= FEW and np.abs(work).max() > 0 and np.ptp(change) > 0:
        agreement = float(work @ change / np.sqrt((work @ work) * (change @ change)))
        ratio = float(work @ change / (work @ work))
        if abs(agreement) > EXACT and not 0.8 < ratio < 1.25:
            return f"energies change by {ratio:.3g} times the work against the forces{_guess(ratio, 1.1)}"
        if abs(agreement) > LOOSE:
            odd = not 0.06 < ratio < 3.0
            return f"energies change by about {ratio:.1g} times the work against the forces{_guess(ratio, 2)}" * odd
    if len(both) < 2 * FEW:
        return ""
    spread, rest = _distances(both)
    if not 0 < spread < RANGE[0] and not rest > RANGE[1]:
        return ""
    much = "much for the forces: energies in kcal/mol or kJ/mol, or forces in hartree/bohr?"
    little = "little for the forces: energies in hartree, or forces in kcal/mol/Å?"
    return f"energies vary too {much if rest > RANGE[1] else little}"


def remote(ratio: float, n_atoms: int) -> str:
    """Doubts about atoms whose closest pair is ``ratio`` times the sum of its covalent radii apart."""
    if not ratio >= FAR or n_atoms < 2:  # not a number where a radius is not known
        return ""
    least = f"{ratio:.2g} times" if ratio < np.inf else "far more than"
    return f"all atoms are at least {least} the length of a bond apart: coordinates in bohr?"


def _comparable(a: Frame, b: Frame) -> bool:
    """Whether only positions differ."""
    s, t = a.structure, b.structure
    same_cell = s.cell is t.cell or (s.cell is not None and t.cell is not None and np.allclose(s.cell, t.cell, 1e-6))
    return same_cell and np.array_equal(s.types, t.types)


def _step(a: Frame, b: Frame) -> tuple[float, float]:
    """Work against the forces from one frame to the next, eV, and what the energy changes by."""
    moved, cell = b.structure.positions - a.structure.positions, a.structure.cell
    if cell is not None:
        moved = moved - np.rint(moved @ np.linalg.inv(cell)) @ cell
    work = -0.5 * np.sum((a.labels["force"] + b.labels["force"]) * moved)
    return float(work), float(b.labels["energy"] - a.labels["energy"])


def _distances(frames: list[Frame]) -> tuple[float, float]:
    """The spread of energies, and of what forces and volume leave of it, over sqrt(atoms) and mean force, angstrom."""
    n = len(frames[0].structure.types)
    energy = np.array([f.labels["energy"] for f in frames])
    square = np.array([np.mean(f.labels["force"] ** 2) for f in frames])
    volume = [1.0 if f.structure.cell is None else abs(np.linalg.det(f.structure.cell)) for f in frames]
    design = np.column_stack([np.ones(len(frames)), square, volume])
    rest = energy - design @ np.linalg.lstsq(design, energy)[0]
    unit = np.sqrt(n * square.mean())
    return (float(energy.std() / unit), float(rest.std() / unit)) if unit > 0 else (0.0, 0.0)


def _guess(ratio: float, factor: float) -> str:
    """The units that explain ``ratio`` up to a ``factor``."""
    close = [name for name, value in UNITS.items() if 1 / factor < ratio / value < factor]
    return f": {' or '.join(close)}?" if close else ""
