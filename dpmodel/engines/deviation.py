"""How far models disagree, as deepmd-kit reports it."""

import numpy as np

from dpmodel.xp import Array


def force_deviation(forces: Array, level: float | None = None) -> Array:
    """(n,) eV/angstrom: root-mean-square distance of the models' ``forces`` (m, n, 3) from their mean.

    ``level`` (eV/angstrom): relative to the length of the mean plus this much.
    """
    mean = forces.mean(axis=0)
    found = np.sqrt(((forces - mean) ** 2).sum(axis=-1).mean(axis=0))
    return found if level is None else found / (np.linalg.norm(mean, axis=-1) + level)


def virial_deviation(virials: Array, n_atoms: int, level: float | None = None) -> Array:
    """(9,) eV per atom: standard deviation of the components of the models' ``virials`` (m, 3, 3).

    ``level`` (eV): relative to the size of the mean plus this much.
    """
    per_atom = virials.reshape(len(virials), 9) / n_atoms
    found = per_atom.std(axis=0)
    return found if level is None else found / (np.abs(per_atom.mean(axis=0)) + level)


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
