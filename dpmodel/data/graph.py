"""From structures to the graph that a model is evaluated on (specification/descriptor.md 2).

Everything that depends on positions happens after the search for pairs: an outdated list with a skin will do.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dpmodel.data.neighbors import ROUNDING, Edges, Pairs, by_distance, find_pairs, measure
from dpmodel.data.structure import Structure
from dpmodel.errors import InputError, NeighborOverflowWarning
from dpmodel.graph import Graph, Selection
from dpmodel.xp import Array

Names = Callable[[int], str]  # what the user calls an atom

COINCIDING = 1e-6  # angstrom: atoms closer than this are at the same place


class Layout(NamedTuple):
    """The slots of edges on the padded neighbor axis: edge ``order[k]`` to ``[row[k], slot[k]]``."""

    order: Array  # (k,) int
    row: Array  # (k,) int
    slot: Array  # (k,) int
    width: int  # of the neighbor axis

    def padded(self, values: Array, empty: Array) -> Array:
        """(N, n, ...): ``values`` (p, ...) of the edges in their slots, the center's ``empty`` (N, ...) elsewhere."""
        result = np.repeat(empty[:, None], self.width, axis=1)
        result[self.row, self.slot] = values[self.order]
        return result


def build_graph(
    structures: Sequence[Structure],
    selection: Selection,
    *,
    pairs: Sequence[Pairs] | None = None,
    strict: bool = False,
    first_frame: int = 0,
) -> Graph:
    """The graph of all ``structures``, in NumPy arrays (int64, float64, bool).

    ``pairs``: who may be a neighbor, from ``candidates`` of the same structures a few steps earlier; None: search.
    ``first_frame``: what messages call the first structure.
    More than ``nsel`` neighbors are a NeighborOverflowWarning, or an InputError if ``strict``; two atoms at the same
    place always are an InputError.
    """
    if not structures:
        raise InputError("there are no frames: the list of structures is empty")
    if pairs is None:
        pairs = candidates(structures, selection.cutoff, first_frame)
    sizes = np.array([len(s.types) for s in structures])
    parts = []
    for s, p, first in zip(structures, pairs, np.cumsum(sizes) - sizes, strict=True):
        edges = measure(p, s.positions, s.cell, selection.cutoff)
        parts.append(edges._replace(center=edges.center + first, neighbor=edges.neighbor + first))
    edges = parts[0] if len(parts) == 1 else Edges(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    types = np.concatenate([s.types for s in structures])
    graph, _ = assemble(edges, types, sizes, selection, strict, frame_names(sizes, first_frame))
    return graph._replace(
        fparam=_joined([s.fparam for s in structures], np.stack),
        aparam=_joined([s.aparam for s in structures], np.concatenate),
    )


def flat_positions(structures: Sequence[Structure]) -> Array:
    """(N, 3) angstrom: the positions of all structures, on the atom axis of their graph."""
    return np.concatenate([s.positions for s in structures])


def candidates(structures: Sequence[Structure], reach: float, first_frame: int = 0) -> list[Pairs]:
    """The possible neighbors: pairs of each structure within ``reach`` angstrom (a cutoff, or more by a skin)."""
    return [
        find_pairs(s.positions, s.cell, s.pbc, reach, s.types >= 0, f"frame {f}")
        for f, s in enumerate(structures, first_frame)
    ]


def assemble(
    edges: Edges, types: Array, sizes: Array, selection: Selection, strict: bool = False, names: Names | None = None
) -> tuple[Graph, Layout]:
    """A graph of frames with ``sizes`` (nf,) atoms from edges within the widest cutoff, and where the edges went.

    ``types`` (A,), negative for virtual atoms, those of ghosts last; ``names``: what messages call the atoms.  Raises
    and warns as ``build_graph``.
    """
    first, n = np.cumsum(sizes) - sizes, int(sizes.sum())
    frame = np.repeat(np.arange(len(sizes)), sizes)
    layout = _arrange(edges, types, n, selection, names or frame_names(sizes), strict)
    members = np.arange(sizes.max())
    graph = Graph(
        types=np.where(types < 0, selection.n_types, types),
        neighbors=layout.padded(edges.neighbor, np.arange(n)),
        shift=layout.padded(edges.shift, np.broadcast_to(selection.far, (n, 3))),
        first_type=np.maximum(types[first], 0)[frame],
        frame=frame,
        members=np.where(members < sizes[:, None], first[:, None] + members, n),
        blocks=_masks(edges.distance[layout.order], layout, n, selection),
    )
    return graph, layout


def frame_names(sizes: Array, first_frame: int = 0) -> Names:
    """Atoms of frames with ``sizes`` (nf,) atoms, counted from 0 in each."""
    first = np.cumsum(sizes) - sizes

    def name(atom: int) -> str:
        f = int(np.searchsorted(first, atom, side="right")) - 1
        return f"atom {atom - first[f]} of frame {f + first_frame}"

    return name


def _arrange(edges: Edges, types: Array, n: int, selection: Selection, name: Names, strict: bool) -> Layout:
    """Sort, truncate the widest list, then exclude pairs: the order of specification/descriptor.md 2.3."""
    order = by_distance(edges.center, edges.distance, edges.vector)
    row = edges.center[order]
    excluded = _excluded(types[row], types[edges.neighbor[order]], selection)
    if selection.truncate:
        _check_overflow(row, edges.distance[order], excluded, n, selection, name, strict)
        selected = ~excluded & (_rank(row, n) < selection.widest.nsel)
    else:
        selected = ~excluded
    order, row = order[selected], row[selected]
    clash = np.flatnonzero(edges.distance[order] < COINCIDING)
    if len(clash):
        a, b = row[clash[0]], edges.neighbor[order[clash[0]]]
        raise InputError(f"{name(a)} and {name(b)} are at the same place (or their periodic images are)")
    slot = _rank(row, n)
    return Layout(order, row, slot, int(slot.max(initial=0)) + 1)


def _rank(row: Array, n_rows: int) -> Array:
    """Place of each entry among those of its row; ``row`` (k,) is sorted."""
    counts = np.bincount(row, minlength=n_rows)
    return np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def _excluded(a: Array, b: Array, selection: Selection) -> Array:
    """Pairs of types that do not see each other, (p,) bool."""
    table = np.zeros((selection.n_types, selection.n_types), dtype=bool)
    for t, u in selection.pair_exclude:
        table[t, u] = table[u, t] = True
    return table[a, b]


def _masks(distance: Array, layout: Layout, n_atoms: int, selection: Selection) -> dict[str, Array]:
    """The leading slots that each block uses."""
    masks = {}
    for name, block in selection.blocks.items():
        count = np.bincount(layout.row[distance <= block.cutoff + ROUNDING], minlength=n_atoms)
        if selection.truncate:
            count = np.minimum(count, block.nsel)
        masks[name] = np.arange(max(1, count.max())) < count[:, None]
    return masks


def _check_overflow(
    row: Array, distance: Array, excluded: Array, n: int, selection: Selection, name: Names, strict: bool
) -> None:
    """Say which blocks leave out neighbors, and what ``nsel`` would keep them all."""
    lines = []
    for block_name, block in selection.blocks.items():
        # exclusion comes after the truncation of the widest list, and before that of the others
        left = np.zeros_like(excluded) if block == selection.widest else excluded
        counted = ~left & (distance <= block.cutoff + ROUNDING)
        count = np.bincount(row[counted], minlength=n)
        worst = int(count.argmax())
        if count[worst] > block.nsel:
            lines.append(
                f"{block_name} keeps the {block.nsel} nearest neighbors within {block.cutoff:g} Å, but "
                f"{name(worst)} has {count[worst]} ({(count > block.nsel).sum()} of {len(count)} atoms have too many; "
                f"nsel = {count[worst]} would keep all)"
            )
    if lines:
        message = "; ".join(lines) + ". Is the structure denser than those the model was trained for?"
        if strict:
            raise InputError(message)
        warnings.warn(message + " The farthest are left out.", NeighborOverflowWarning, stacklevel=5)


def _joined(values: list[Array | None], join: Callable[[list[Array]], Array]) -> Array | None:
    return None if any(v is None for v in values) else join(values)
