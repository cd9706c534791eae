"""Random structures of every kind, and the same with explicit periodic images as simulation engines see them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.graph import Graph
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
    lattice = np.stack(np.meshgrid(*[np.arange(sites)] * 3), axis=-1).reshape(-1, 3)
    positions = (random.permutation(lattice)[:n] + random.uniform(-0.15, 0.15, (n, 3))) / sites @ cell
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
