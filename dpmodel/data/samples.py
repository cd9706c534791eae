"""Sample structures of the types of a model, to try it on."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.model.settings import ModelSettings


def example(type_map: Sequence[str], seed: int = 0) -> Structure:
    """A small periodic structure of the types of a model: water if they allow it, else a mixture of all elements."""
    if {"O", "H"} <= set(type_map):
        return water(type_map.index("O"), type_map.index("H"), np.random.default_rng(seed))
    elements = np.array([t for t, name in enumerate(type_map) if name in SYMBOLS] or range(len(type_map)))
    s = mixture(len(elements), seed)
    return Structure(s.positions, elements[s.types], s.cell, s.pbc)


def mixture(n_types: int, seed: int = 0) -> Structure:
    """At least 24 atoms, of all types, near the sites of a cubic lattice."""
    random = np.random.default_rng(seed)
    n_atoms, spacing = max(24, n_types), 2.4
    n = ceil(n_atoms ** (1 / 3) - 1e-9)
    sites = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = (sites + random.uniform(-0.12, 0.12, sites.shape)) * spacing
    types = random.permutation(np.resize(np.arange(n_types), n_atoms))
    return Structure(positions, types, n * spacing * np.eye(3), np.full(3, True))


def asked(structure: Structure, names: Sequence[str], settings: ModelSettings) -> Structure:
    """``structure``, whose types number ``names``, as a model is asked about it.

    Parameters that the model wants and has no default for are zero.
    """
    wants = settings.fitting_net
    fparam = wants.default_fparam or [0.0] * wants.numb_fparam
    return Structure(
        structure.positions,
        np.array([settings.type_map.index(names[t]) for t in structure.types]),
        structure.cell,
        structure.pbc,
        fparam=np.array(fparam) if wants.numb_fparam else None,
        aparam=np.zeros((len(structure.types), wants.numb_aparam)) if wants.numb_aparam else None,
    )


def water(oxygen: int, hydrogen: int, random: np.random.Generator) -> Structure:
    """Eight randomly turned molecules on a grid in a cube, 1 g/cm^3."""
    edge, bond, angle = 6.2, 0.96, np.radians(104.5)
    shape = bond * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
    centers = np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3) * (edge / 2)
    tries = []
    for turns in np.linalg.qr(random.standard_normal((50, 8, 3, 3)))[0]:
        positions = (centers[:, None, :] + shape @ turns + random.normal(0.0, 0.03, (8, 3, 3))).reshape(-1, 3)
        vectors = positions[:, None, :] - positions
        distance = np.linalg.norm(vectors - edge * np.round(vectors / edge), axis=-1)
        apart = np.arange(24)[:, None] // 3 != np.arange(24) // 3
        tries.append((distance[apart].min(), positions))
    positions = max(tries, key=lambda t: t[0])[1]  # the one whose molecules keep their distance best
    return Structure(positions, np.array([oxygen, hydrogen, hydrogen] * 8), edge * np.eye(3), np.full(3, True))
