"""One block's rows of a graph: all that it needs to know of each center."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dpmodel.execution import Bin
from dpmodel.graph import Graph
from dpmodel.ops.arrays import gather
from dpmodel.ops.geometry import Environment, environment, statistics_of
from dpmodel.xp import Array, like, namespace, shape

PAIRS = "repformer"  # the block of which g2, h2 and the switch of a description are


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


class Parts:
    """The centers of a graph by ``bins`` of like neighbor counts, each with arrays of its own widths; or all in one."""

    def __init__(self, graph: Graph, vectors: Array, bins: Sequence[Bin]) -> None:
        self._graph, self._vectors, self._bins = graph, vectors, bins
        if bins:
            xp = namespace(graph.neighbors)
            counts = xp.sum(xp.astype(graph.blocks[PAIRS], graph.neighbors.dtype), axis=1)
            order = xp.argsort(counts, stable=True)
            self._back = xp.argsort(order, stable=True)
            stops = [sum(b.size for b in bins[: i + 1]) for i in range(len(bins))]
            self._rows = [order[stop - b.size : stop] for b, stop in zip(bins, stops, strict=True)]

    def near(self, name: str) -> list[Neighborhood]:
        """The neighborhoods that the block ``name`` looks at."""
        near = neighborhood(self._graph, self._vectors, self._graph.blocks[name])
        if not self._bins:
            return [near]
        return [
            _narrowed(Neighborhood(*(gather(x, rows) for x in near)), dict(b.widths)[name])
            for rows, b in zip(self._rows, self._bins, strict=True)
        ]

    def split(self, x: Array) -> list[Array]:
        """(N, ...) of all centers to those of each part."""
        return [gather(x, rows) for rows in self._rows] if self._bins else [x]

    def join(self, parts: Sequence[Array], width: int | None = None) -> Array:
        """The parts' (N_i, ...), or (N_i, n_i, ...) filled up with zeros to ``width``, to (N, ...) of all centers."""
        if not self._bins:
            return parts[0]
        xp = namespace(parts[0])
        whole = parts if width is None else [_widened(x, width) for x in parts]
        return gather(xp.concat(list(whole), axis=0), self._back)


def _narrowed(near: Neighborhood, width: int) -> Neighborhood:
    return near._replace(
        vectors=near.vectors[:, :width, :],
        occupied=near.occupied[:, :width],
        neighbors=near.neighbors[:, :width],
        neighbor_types=near.neighbor_types[:, :width],
    )


def _widened(x: Array, width: int) -> Array:
    missing = (shape(x)[0], width - shape(x)[1], *shape(x)[2:])
    return namespace(x).concat([x, namespace(x).zeros(missing, **like(x))], axis=1)


def real_slots(near: Neighborhood, excluded: tuple[tuple[int, int], ...], n_types: int) -> Array:
    """Occupied slots whose pair of types is not excluded: (N, n) bool."""
    if not excluded:
        return near.occupied
    xp = namespace(near.neighbor_types)
    pair = near.types[:, None] * (n_types + 1) + near.neighbor_types
    real = near.occupied
    for a, b in excluded:
        real = real & xp.not_equal(pair, a * (n_types + 1) + b) & xp.not_equal(pair, b * (n_types + 1) + a)
    return real


def environment_of(block: Any, near: Neighborhood) -> Environment:
    """The environment of each center, by the statistics, cutoffs and excluded pairs of types of ``block``."""
    mean, stddev = statistics_of(near.types, block.mean, block.stddev)
    real = real_slots(near, block.excluded, block.n_types)
    return environment(near.vectors, real, mean, stddev, block.smooth_cutoff, block.cutoff, block.protection)
