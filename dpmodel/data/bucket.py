"""Graphs of few shapes, for backends that compile a program for each shape they meet."""

import numpy as np

from dpmodel.data.graph import Selection
from dpmodel.errors import InputError
from dpmodel.types import Graph
from dpmodel.xp import Array


def bucket(graph: Graph, selection: Selection) -> Graph:
    """``graph`` with all sizes but the number of frames rounded up to those of a short ladder.

    The atoms added at the end are virtual, without neighbours and members of no frame: no number changes.  Widths stop
    at the ``nsel`` that truncation leaves.  Positions need as many rows: see ``bucket_positions``.
    """
    n_atoms, n = graph.neighbors.shape
    if len(graph.types) > n_atoms:
        raise InputError(f"a graph with ghosts cannot be padded: it has {len(graph.types)} atoms, {n_atoms} centres")
    total = rounded_up(n_atoms)
    width = _width(n, selection.widest.nsel, selection)
    neighbors = np.repeat(np.arange(total)[:, None], width, axis=1)
    neighbors[:n_atoms, :n] = graph.neighbors
    shift = np.tile(selection.far, (total, width, 1))
    shift[:n_atoms, :n] = graph.shift
    masks = {name: getattr(graph, name) for name in selection.blocks}
    members = _grown(graph.members, (len(graph.members), rounded_up(graph.members.shape[1])), n_atoms)
    return graph._replace(
        types=_grown(graph.types, (total,), selection.n_types),
        neighbors=neighbors,
        shift=shift,
        first_type=_grown(graph.first_type, (total,), 0),
        frame=_grown(graph.frame, (total,), 0),
        members=np.where(members == n_atoms, total, members),
        aparam=None if graph.aparam is None else _grown(graph.aparam, (total, graph.aparam.shape[1]), 0),
        **{
            name: _grown(mask, (total, _width(mask.shape[1], selection.blocks[name].nsel, selection)), False)
            for name, mask in masks.items()
        },
    )


def bucket_positions(positions: Array) -> Array:
    """``positions`` (N, 3) with as many rows as their graph gets in ``bucket``; the padding is at the origin."""
    return _grown(positions, (rounded_up(len(positions)), 3), 0.0)


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
