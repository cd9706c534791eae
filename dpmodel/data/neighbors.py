"""Pairs of close atoms: found by vesin, measured and sorted here.

Two steps, so that a simulation can repeat the second alone.  ``find_pairs`` searches, with a reach that may
exceed the cutoff by a skin; ``measure`` takes positions and keeps what lies within the cutoff.  As long as no atom
has moved by more than half the skin (and none was wrapped), the pairs of an earlier step still do.
"""

from typing import NamedTuple

import numpy as np

from dpmodel.errors import InputError
from dpmodel.xp import Array

ROUNDING = 1e-9  # angstrom: lengths that differ by less are equal, whatever a translation did to their last digits
MAX_NEIGHBORS = 2e4  # expected within the reach; dense matter has a few hundred
MAX_EXTENT = 1e4  # in units of the reach; far beyond it vesin's grid of cells overflows
DIRECTION = np.array([1.0, np.sqrt(2.0), np.sqrt(3.0)])  # along no lattice: it tells equally distant neighbors apart


class Pairs(NamedTuple):
    """Directed pairs of one structure, in any order: each pair of atoms appears once from either side."""

    center: Array  # (p,) int
    neighbor: Array  # (p,) int
    image: Array  # (p, 3) int: cell of the neighbor, relative to positions as they were given


class Edges(NamedTuple):
    """Pairs with their geometry, angstrom: vector = positions[neighbor] + shift - positions[center]."""

    center: Array  # (p,) int
    neighbor: Array  # (p,) int
    shift: Array  # (p, 3) lattice translation of the neighbor's image
    vector: Array  # (p, 3)
    distance: Array  # (p,)


def find_pairs(
    positions: Array, cell: Array | None, pbc: Array, reach: float, real: Array | None = None, where: str = "structure"
) -> Pairs:
    """Pairs no farther apart than ``reach`` angstrom (and perhaps, by rounding, a few that are).

    ``positions`` (n, 3) and ``cell`` (3, 3), angstrom, rows are lattice vectors; ``pbc`` (3,) bool.  Any handedness,
    any skew, positions anywhere, cells much smaller than the reach; vectors along directions that are not periodic do
    not matter.  Atoms that are not ``real`` (n,) neither have nor are neighbors.  ``where`` names the structure in an
    error: InputError where atoms are so many or so far apart that the lengths cannot be angstrom.
    """
    index = np.arange(len(positions)) if real is None else np.flatnonzero(real)
    if len(index) == 0:
        none = np.zeros((0, 3), dtype=np.int64)
        return Pairs(none[:, 0], none[:, 1], none)
    points = np.ascontiguousarray(positions[index])
    box = enclosing_cell(points, cell, pbc, reach)
    _check_extent(points, box, reach, where)
    # vesin leaves out pairs at exactly its cutoff; specification/descriptor.md 14.15 wants them
    from dpmodel.data.search import NeighborList

    search = NeighborList(cutoff=reach + 2 * ROUNDING, full_list=True)
    i, j, image = search.compute(points, box, pbc, quantities="ijS")
    return Pairs(index[i.astype(np.int64)], index[j.astype(np.int64)], image.astype(np.int64))


def measure(pairs: Pairs, positions: Array, cell: Array | None, cutoff: float) -> Edges:
    """The geometry of those ``pairs`` that are no longer than ``cutoff`` (angstrom) at ``positions``."""
    shift = np.zeros((len(pairs.center), 3)) if cell is None else pairs.image @ cell
    vector = positions[pairs.neighbor] - positions[pairs.center] + shift
    distance = np.sqrt(np.einsum("pk,pk->p", vector, vector))
    edges = Edges(pairs.center, pairs.neighbor, shift, vector, distance)
    inside = distance <= cutoff + ROUNDING
    return edges if inside.all() else Edges(*(values[inside] for values in edges))


def by_distance(center: Array, distance: Array, vector: Array) -> Array:
    """The order (p,) that sorts edges by center and distance, the same for every way to find them.

    Equally distant neighbors are ordered along a fixed direction: the order then depends neither on wrapping and
    translation nor on the numbering of the atoms and the choice of the cell.
    """
    level = (distance * (10.0 / ROUNDING)).astype(np.int64)  # one integer key sorts twice as fast as two keys
    order = np.argsort(center * (level.max(initial=0) + 1) + level)
    center, distance = center[order], distance[order]
    tie = (center[1:] == center[:-1]) & (distance[1:] - distance[:-1] < ROUNDING)
    if tie.any():
        group = np.cumsum(np.append(True, ~tie))
        tied = np.append(False, tie) | np.append(tie, False)
        members = order[tied]
        order[tied] = members[np.lexsort((vector[members] @ DIRECTION, group[tied]))]
    return order


def enclosing_cell(positions: Array, cell: Array | None, pbc: Array, reach: float) -> Array:
    """(3, 3): the periodic vectors of ``cell``; the others normal to them, and wide enough for all atoms."""
    lattice = np.zeros((0, 3)) if cell is None else cell[pbc]
    if len(lattice) == 3:
        return lattice
    normals = np.linalg.svd(lattice)[2][len(lattice) :] if len(lattice) else np.eye(3)
    box = np.empty((3, 3))
    box[pbc] = lattice
    box[~pbc] = normals * (np.ptp(positions @ normals.T, axis=0) + 2 * reach)[:, None]
    return box


def _check_extent(points: Array, box: Array, reach: float, where: str) -> None:
    extent = max(np.abs(points).max(), np.abs(box).max())
    if extent > MAX_EXTENT * reach:
        raise InputError(
            f"{where}: coordinates and cell should lie within {MAX_EXTENT * reach:.3g} Å of the origin, "
            f"but reach {extent:.3g}. Has the simulation blown up, or is the unit of length not Å?"
        )
    volume = abs(np.linalg.det(box))
    expected = len(points) * 4.2 * reach**3 / volume
    if expected > MAX_NEIGHBORS:
        raise InputError(
            f"{where}: {len(points)} atoms in {volume:.3g} Å³ would give each about {expected:.0f} "
            f"neighbors within {reach:g} Å. Is the unit of length not Å?"
        )
