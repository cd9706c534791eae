"""The deviation of models from each other, or from labels, as deepmd-kit reports it."""

import numpy as np

from dpmodel.xp import Array


def force_deviation(forces: Array, level: float | None = None, label: Array | None = None) -> Array:
    """(n,) eV/angstrom: root-mean-square distance of the models' ``forces`` (m, n, 3) from their mean.

    ``level`` (eV/angstrom): relative to the length of the mean plus this much.  ``label`` (n, 3): in place of the mean.
    """
    center = forces.mean(axis=0) if label is None else label
    distance = np.sqrt(((forces - center) ** 2).sum(axis=-1).mean(axis=0))
    return distance if level is None else distance / (np.linalg.norm(center, axis=-1) + level)


def virial_deviation(virials: Array, n_atoms: int, level: float | None = None, label: Array | None = None) -> Array:
    """(9,) eV per atom: standard deviation of the components of the models' ``virials`` (m, 3, 3).

    ``level`` (eV): relative to the size of the mean plus this much.  ``label`` (3, 3): in place of the mean.
    """
    per_atom = virials.reshape(len(virials), 9) / n_atoms
    center = per_atom.mean(axis=0) if label is None else label.reshape(9) / n_atoms
    distance = np.sqrt(((per_atom - center) ** 2).mean(axis=0))
    return distance if level is None else distance / (np.abs(center) + level)


def energy_deviation(energies: Array, n_atoms: int, label: Array | None = None) -> float:
    """eV per atom: standard deviation of the models' ``energies`` (m,), or their distance from ``label``."""
    center = energies.mean() if label is None else label
    return float(np.sqrt(((energies - center) ** 2).mean()) / n_atoms)


def summary(f: Array, v: Array) -> dict[str, float]:
    """The names of deepmd-kit: largest, smallest and mean of forces, root-mean-square mean of the virial."""
    return {
        "max_devi_v": float(v.max()),
        "min_devi_v": float(v.min()),
        "avg_devi_v": float(np.sqrt((v**2).mean())),
        "max_devi_f": float(f.max()),
        "min_devi_f": float(f.min()),
        "avg_devi_f": float(f.mean()),
    }
