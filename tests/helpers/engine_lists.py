"""deepmd-kit's lower interface: neighbor lists made by an engine (specification/descriptor.md 1 and 2.4)."""

from typing import NamedTuple

import numpy as np

from dpmodel.data.graph import Selection, assemble
from dpmodel.data.neighbors import ROUNDING, Edges
from dpmodel.graph import Graph
from dpmodel.xp import Array


class ExtendedEdges(NamedTuple):
    """Edge vectors from extended coordinates x (nf*nall, 3), in any array library and with a derivative:
    ``x[source] - x[center][:, None, :] + far``.
    """

    source: Array  # (N, n) int: extended atom at the end of each edge; in an empty slot the center itself
    center: Array  # (N,) int: extended atom of each center
    far: Array  # (N, n, 3) angstrom: zero in occupied slots, beyond every cutoff in empty ones


def graph_from_lists(
    ext_types: Array,
    nlist: Array,
    mapping: Array | None,
    ext_coord: Array,
    selection: Selection,
    *,
    fparam: Array | None = None,
    aparam: Array | None = None,
    strict: bool = False,
) -> tuple[Graph, ExtendedEdges]:
    """The graph of the local atoms of extended systems, and their edges.

    ``ext_coord`` (nf, nall, 3) or (nf, nall*3), angstrom; ``ext_types`` (nf, nall), negative for virtual atoms;
    ``nlist`` (nf, nloc, nnei), -1 in empty slots, in any order; ``mapping`` (nf, nall) from extended to local atoms;
    ``fparam`` (nf, k); ``aparam`` (nf, nloc, k).  The list is sorted, cut and truncated here; otherwise as
    ``build_graph``.
    """
    types, nlist = np.asarray(ext_types, dtype=np.int64), np.asarray(nlist, dtype=np.int64)
    (nf, nloc, _), n_ext = nlist.shape, types.shape[1]
    x = np.asarray(ext_coord, dtype=np.float64).reshape(nf, n_ext, 3)
    mapping = np.arange(n_ext)[None].repeat(nf, 0) if mapping is None else np.asarray(mapping, dtype=np.int64)
    frame, local, slot = np.nonzero(nlist >= 0)
    end = nlist[frame, local, slot]
    vector = x[frame, end] - x[frame, local]
    distance = np.sqrt(np.einsum("pk,pk->p", vector, vector))
    used = (distance <= selection.cutoff + ROUNDING) & (types[frame, local] >= 0) & (types[frame, end] >= 0)
    frame, local, end = frame[used], local[used], end[used]

    owner = mapping[frame, end]
    shift = x[frame, end] - x[frame, owner]
    edges = Edges(frame * nloc + local, frame * nloc + owner, shift, vector[used], distance[used])
    graph, layout = assemble(edges, types[:, :nloc].reshape(-1), np.full(nf, nloc), selection, strict)
    center = (np.arange(nf)[:, None] * n_ext + np.arange(nloc)).reshape(-1)
    return graph._replace(
        fparam=None if fparam is None else np.asarray(fparam, dtype=float).reshape(nf, -1),
        aparam=None if aparam is None else np.asarray(aparam, dtype=float).reshape(nf * nloc, -1),
    ), ExtendedEdges(
        source=layout.padded(frame * n_ext + end, center),
        center=center,
        far=layout.padded(np.zeros_like(shift), np.broadcast_to(selection.far, (nf * nloc, 3))),
    )
