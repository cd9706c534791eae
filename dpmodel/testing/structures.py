"""Random structures of every kind, and the same with explicit periodic images as simulation engines see them."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.graph import Graph
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array

SPACING = {"dense": 1.7, "sparse": 2.6, "lonely atom": 1.7}  # angstrom between the sites that atoms are put near
SITES, ATOMS = 3, 11  # sites along each lattice vector, atoms in a cell
SMALL = 3.1  # angstrom: edge of the small cell
GAP = 14.0  # angstrom: emptiness around the lonely atom
PBC = {
    "none": (False, False, False),
    "slab": (True, True, False),
    "wire": (False, True, False),
}  # the others: all


def random_structure(
    boundary: str, crowd: str, virtual: str, n_types: int, fewer: int, random: np.random.Generator
) -> Structure:
    """One frame of the kinds named in ``options.STRUCTURE``, with ``fewer`` atoms less than usual."""
    small = boundary == "small cell"
    sites, edge, n = (2, SMALL, 3) if small else (SITES, SITES * SPACING[crowd], ATOMS)
    n -= fewer
    cell = edge * (np.eye(3) + random.uniform(-0.15, 0.15, (3, 3)))
    places = np.stack(np.meshgrid(*[np.arange(sites)] * 3), axis=-1).reshape(-1, 3)
    positions = (random.permutation(places)[:n] + random.uniform(-0.15, 0.15, (n, 3))) / sites @ cell
    if crowd == "lonely atom":
        direction = cell[0] / np.linalg.norm(cell[0])
        cell[0] += GAP * direction
        positions[-1] += GAP / 2.0 * direction
    if boundary == "left-handed":
        cell = cell[[1, 0, 2]]
    pbc = np.array(PBC.get(boundary, (True, True, True)))
    positions += random.integers(-1, 2, (n, 3)) * pbc @ cell  # nobody promises that atoms lie in the cell
    types = random.integers(0, n_types, n)
    if virtual != "none":
        types[:1] = -1 if virtual == "first atom" else types[:1]
        types[n // 2 :: 3] = -1 if virtual == "some" else types[n // 2 :: 3]
    return Structure(positions, types, None if boundary == "none" else cell, pbc)


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
    places = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = (places + random.uniform(-0.12, 0.12, places.shape)) * spacing
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


class Extended(NamedTuple):
    """deepmd-kit's lower interface: nf frames of nloc atoms, followed by the images that they have as neighbors."""

    coord: Array  # (nf, nall, 3) float64, angstrom
    types: Array  # (nf, nall) int64; -1 for virtual atoms, and for what fills up frames with fewer images
    nlist: Array  # (nf, nloc, nnei) int64: on the extended axis, nearest first, -1 in empty slots
    mapping: Array  # (nf, nall) int64: the local atom of each extended one


def extended(structures: Sequence[Structure], graph: Graph, n_slots: int) -> Extended:
    """The neighbors of ``graph`` (of these structures, all of one size) by explicit images, in ``n_slots`` slots."""
    n_frames, n = len(structures), len(structures[0].types)
    occupied = np.zeros(graph.neighbors.shape, dtype=bool)
    for mask in graph.blocks.values():
        occupied[:, : mask.shape[1]] |= mask
    frames = [
        _extended(s, graph.neighbors[rows] - f * n, graph.shift[rows], occupied[rows], n_slots)
        for f, s in enumerate(structures)
        for rows in [slice(f * n, (f + 1) * n)]
    ]
    most = max(len(frame.types) for frame in frames)
    result = Extended(
        np.full((n_frames, most, 3), 1.0e3),
        np.full((n_frames, most), -1),
        np.stack([frame.nlist for frame in frames]),
        np.zeros((n_frames, most), dtype=np.int64),
    )
    for f, frame in enumerate(frames):
        for name in ("coord", "types", "mapping"):
            getattr(result, name)[f, : len(frame.types)] = getattr(frame, name)
    return result


def _extended(structure: Structure, neighbors: Array, shift: Array, occupied: Array, n_slots: int) -> Extended:
    """One frame, without the axis of frames."""
    n = len(structure.types)
    row, slot = np.nonzero(occupied)
    end, image = neighbors[row, slot], shift[row, slot]
    away = np.abs(image).max(axis=1) > 0.0
    # images are told apart by their shift, which is a sum of lattice vectors up to rounding
    key = np.column_stack([end[away], np.round(image[away], 6)])
    _, first, which = np.unique(key, axis=0, return_index=True, return_inverse=True)
    owner = end[away][first]
    end = end.copy()
    end[away] = n + which.reshape(-1)
    nlist = np.full((n, n_slots), -1)
    nlist[row, slot] = end
    return Extended(
        np.concatenate([structure.positions, structure.positions[owner] + image[away][first]]),
        np.concatenate([structure.types, structure.types[owner]]),
        nlist,
        np.concatenate([np.arange(n), owner]),
    )
