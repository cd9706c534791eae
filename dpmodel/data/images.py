"""Periodic images as atoms of their own, for what treats an atom and its images differently."""

import numpy as np

from dpmodel.graph import Graph, Selection
from dpmodel.xp import Array


def explicit_images(graph: Graph, positions: Array, selection: Selection) -> tuple[Graph, Array, Array]:
    """``graph`` without shifts: every image that is a neighbor follows the atoms as a ghost.

    Returns the graph, the positions (A, 3) of all its atoms in angstrom, and the atom (A,) that each is an image of.
    """
    n_atoms, own = len(positions), np.arange(len(graph.neighbors))[:, None]
    is_far = np.all(graph.shift == selection.far, axis=-1)  # which the lattice may be as well
    empty = (graph.neighbors == own) & is_far
    slots = np.any(graph.shift != 0.0, axis=-1) & ~empty
    atom, shift = graph.neighbors[slots], graph.shift[slots]
    keys = np.column_stack([atom, np.rint(1e6 * shift).astype(np.int64)])
    _, first, image = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    owner = np.concatenate([np.arange(n_atoms), atom[first]])
    neighbors, shifts = graph.neighbors.copy(), graph.shift.copy()
    neighbors[slots], shifts[slots] = n_atoms + image.ravel(), 0.0
    moved = np.concatenate([positions, positions[atom[first]] + shift[first]])
    return graph._replace(types=graph.types[owner], neighbors=neighbors, shift=shifts), moved, owner
