"""The results of a model, in NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, NamedTuple

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.errors import InputError
from dpmodel.graph import Graph
from dpmodel.xp import Array


@dataclass(frozen=True)
class Prediction:
    """The predictions for frames of the same size; NumPy arrays, float64, or None where not asked for.

    An energy model fills the first fields, any other head ``outputs``: ``{"dipole": (nf, 3),
    "atom_dipole": (nf, n, 3)}`` and the like.  Virtual atoms have zeros.
    """

    energy: Array = None  # (nf,) eV
    atom_energy: Array = None  # (nf, n) eV
    forces: Array = None  # (nf, n, 3) eV/angstrom
    virial: Array = None  # (nf, 3, 3) eV: sum of force (x) position; trace > 0 wants to expand
    atom_virial: Array = None  # (nf, n, 3, 3) eV: a split of the virial, which is not unique
    hessian: Array = None  # (nf, n, 3, n, 3) eV/angstrom^2
    energy_uncertainty: Array = None  # (nf,) eV: standard deviation of the energy
    atom_uncertainty: Array = None  # (nf, n) eV: of the atomic energies
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class HeatFlux:
    """The heat flux of frames of the same size, eV angstrom/fs; NumPy arrays, float64.

    Divided by the volume it is the heat current density.  ``convective`` depends on the zero of the atomic energies.
    """

    virial: Array  # (nf, 3) what the interactions carry: sum over i, j of (r_i - r_j) (de_i/dr_j . v_j), all images j
    convective: Array  # (nf, 3) what the atoms carry: sum of (e_i + m_i v_i^2 / 2) v_i

    @property
    def total(self) -> Array:
        """(nf, 3) the sum of both."""
        return self.virial + self.convective


NOT_FINITE = "the {} is not a finite number{}; numbers overflow where atoms nearly coincide, or in a damaged model"
PER_FRAME = ("energy", "virial", "energy_uncertainty")
FIELDS = tuple(f.name for f in fields(Prediction) if f.name != "outputs")


def stress_of(virial: Array, cell: Array) -> Array | None:
    """(..., 3, 3) eV/angstrom^3, negative under compression, of virials (..., 3, 3); None for a cell without a volume.

    The virial of an atom is made symmetric.
    """
    if np.linalg.matrix_rank(cell) < 3:
        return None
    return -0.5 * (virial + np.swapaxes(virial, -1, -2)) / abs(np.linalg.det(cell))


class NotFinite(NamedTuple):
    """Numbers of a prediction that are infinite or NaN: the quantity, and the atoms that have them."""

    quantity: str
    atoms: Array


def expect_finite(
    predictions: Sequence[Prediction], graph: Graph, positions: Array, cutoff: float, first_frame: int = 0
) -> None:
    """Raise InputError for infinite numbers and NaN in the frames of ``graph``, which count from ``first_frame``.

    The error names the atom whose neighbor is closest, of those that have such numbers.
    """
    for f, prediction in enumerate(predictions):
        odd = not_finite(prediction)
        if odd is not None:
            rows = np.flatnonzero(graph.frame == f)[odd.atoms]
            vectors = positions[graph.neighbors[rows]] - positions[rows, None] + graph.shift[rows]
            distances = np.linalg.norm(vectors, axis=-1).min(axis=1, initial=np.inf)
            k = distances.argmin()
            nearest = f", its nearest neighbor is {distances[k]:.3g} Å away" if distances[k] <= cutoff else ""
            raise InputError(
                f"frame {first_frame + f}, atom {odd.atoms[k]}: {NOT_FINITE.format(odd.quantity, nearest)}"
            )


def not_finite(p: Prediction) -> NotFinite | None:
    """The first numbers of one frame that are not finite, if any; of a sum, the atom with the largest part."""
    parts = {"energy": p.atom_energy, "force": p.forces, "virial": p.atom_virial, "Hessian": p.hessian}
    parts |= {"uncertainty": p.atom_uncertainty}
    parts |= {name.removeprefix("atom_"): value for name, value in p.outputs.items() if name.startswith("atom_")}
    rows = {k: v[0].reshape(v.shape[1], prod(v.shape[2:])) for k, v in parts.items() if v is not None}
    for name, values in rows.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            return NotFinite(name, bad)
    for name, total in {
        "energy": p.energy,
        "virial": p.virial,
        "uncertainty": p.energy_uncertainty,
        **p.outputs,
    }.items():
        if total is not None and not np.isfinite(total).all():
            return NotFinite(name, np.abs(next(iter(rows.values()))).max(axis=1).argmax(keepdims=True))
    return None


def of_frame(values: dict[str, np.ndarray], f: int, frames: Sequence[Structure]) -> dict[str, Any]:
    """The fields of one frame, with an axis of one frame."""
    start = sum(len(frame.types) for frame in frames[:f])
    n = len(frames[f].types)
    part = {name: v[f] if name in PER_FRAME else v[start : start + n] for name, v in values.items()}
    if "hessian" in part:
        part["hessian"] = part["hessian"][:, :, :n]
    return {name: v[None] for name, v in part.items()}


def stack(predictions: Sequence[Prediction]) -> Prediction:
    """Predictions of frames of the same size as one."""
    first = predictions[0]
    fields = {
        name: np.concatenate([getattr(p, name) for p in predictions])
        for name in FIELDS
        if getattr(first, name) is not None
    }
    outputs = {name: np.concatenate([p.outputs[name] for p in predictions]) for name in first.outputs}
    return Prediction(**fields, outputs=outputs)
