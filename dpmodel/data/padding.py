"""Graphs of few shapes, for backends that compile a program for each shape they meet."""

import numpy as np

from dpmodel.graph import Graph, Selection
from dpmodel.xp import Array

Sizes = dict[str, int]  # of the axes of a graph, by name


def rounded_sizes(graph: Graph, selection: Selection, least: Sizes | None = None) -> Sizes:
    """All sizes of ``graph`` but the number of frames, rounded up to those of a short ladder, or ``least`` if larger.

    Widths stop at the ``nsel`` that truncation leaves.
    """
    n_centers, n = graph.neighbors.shape
    sizes = {
        "centers": rounded_up(n_centers),
        "ghosts": rounded_up(len(graph.types) - n_centers),
        "members": rounded_up(graph.members.shape[1]),
        "neighbors": _width(n, selection.widest.nsel, selection),
    }
    for name, block in selection.blocks.items():
        sizes[f"blocks.{name}"] = _width(graph.blocks[name].shape[1], block.nsel, selection)
    return {axis: max(size, (least or {}).get(axis, 0)) for axis, size in sizes.items()}


def pad_graph(graph: Graph, selection: Selection, sizes: Sizes | None = None) -> Graph:
    """``graph`` with axes of ``sizes``, by default those of ``rounded_sizes``.

    What is added are virtual atoms, without neighbors and members of no frame, after the centers and after the ghosts:
    no number changes.  ``pad_rows`` does the same to positions.
    """
    sizes = sizes or rounded_sizes(graph, selection)
    n_centers, n = graph.neighbors.shape
    total, width = sizes["centers"], sizes["neighbors"]
    row_of = padded_index(graph, total)
    neighbors = np.repeat(np.arange(total)[:, None], width, axis=1)
    neighbors[:n_centers, :n] = row_of[graph.neighbors]
    shift = np.tile(selection.far, (total, width, 1))
    shift[:n_centers, :n] = graph.shift
    types = np.full(total + sizes["ghosts"], selection.n_types)
    types[row_of] = graph.types
    members = _grown(graph.members, (len(graph.members), sizes["members"]), n_centers)
    return graph._replace(
        types=types,
        neighbors=neighbors,
        shift=shift,
        first_type=_grown(graph.first_type, (total,), 0),
        frame=_grown(graph.frame, (total,), 0),
        members=np.where(members == n_centers, total, members),
        aparam=None if graph.aparam is None else _grown(graph.aparam, (total, graph.aparam.shape[1]), 0),
        blocks={name: _grown(mask, (total, sizes[f"blocks.{name}"]), False) for name, mask in graph.blocks.items()},
    )


def padded_index(graph: Graph, total: int) -> Array:
    """(A,) the row that each atom of ``graph`` gets if there are ``total`` centers: ghosts come after them."""
    atoms, n_centers = np.arange(len(graph.types)), len(graph.neighbors)
    return np.where(atoms < n_centers, atoms, atoms + total - n_centers)


def pad_rows(rows: Array, graph: Graph, padded: Graph) -> Array:
    """``rows`` (A, ...) of the atoms of ``graph`` as rows of ``padded``, its ``pad_graph``; the others are zero."""
    result = np.zeros((len(padded.types), *rows.shape[1:]), rows.dtype)
    result[padded_index(graph, len(padded.neighbors))] = rows
    return result


def rounded_up(n: int) -> int:
    """The smallest size of the ladder that holds ``n``: multiples of 8, eight to sixteen sizes in a doubling.

    8, 16, 24, ... 128, 144, ... 256, 288, ... 512, 576, ...: at most 12.5 % in excess of any ``n`` above 56.
    """
    step = max(8, 1 << (n - 1).bit_length() >> 4)
    return -(-n // step) * step


def _width(n: int, nsel: int, selection: Selection) -> int:
    return min(rounded_up(n), nsel) if selection.truncate else rounded_up(n)


def _grown(values: Array, shape: tuple[int, ...], filler: float) -> Array:
    """``values`` in the leading corner of an array of ``shape``."""
    result = np.full(shape, filler, dtype=values.dtype)
    result[tuple(slice(size) for size in values.shape)] = values
    return result
