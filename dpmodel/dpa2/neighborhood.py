"""One block's rows of a graph: all that it needs to know of each center."""

from typing import NamedTuple

from dpmodel.graph import Graph
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, namespace, shape


class Neighborhood(NamedTuple):
    """Rows of a graph for one block; every field has the centers first, so that groups of atoms are slices."""

    vectors: Array  # (N, n, 3) edge vectors, angstrom
    occupied: Array  # (N, n) bool: slots that hold a neighbor
    neighbors: Array  # (N, n) int: index on the atom axis
    neighbor_types: Array  # (N, n) int
    types: Array  # (N,) int
    first_type: Array  # (N,) int: type of atom 0 of the frame


def neighborhood(graph: Graph, vectors: Array, occupied: Array) -> Neighborhood:
    """The leading slots of the widest list that a block with the mask ``occupied`` looks at."""
    n_centers, width = shape(occupied)
    neighbors = graph.neighbors[:, :width]
    return Neighborhood(
        vectors=vectors[:, :width, :],
        occupied=occupied,
        neighbors=neighbors,
        neighbor_types=gather(graph.types, neighbors),
        types=graph.types[:n_centers],
        first_type=graph.first_type,
    )


def real_slots(near: Neighborhood, excluded: tuple[tuple[int, int], ...], n_types: int) -> Array:
    """Occupied slots whose pair of types is not excluded: (N, n) bool."""
    if not excluded:
        return near.occupied
    xp = namespace(near.neighbor_types)
    pair = near.types[:, None] * (n_types + 1) + near.neighbor_types
    kept = near.occupied
    for a, b in excluded:
        kept = kept & xp.not_equal(pair, a * (n_types + 1) + b) & xp.not_equal(pair, b * (n_types + 1) + a)
    return kept
