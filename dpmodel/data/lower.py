"""deepmd-kit's lower interface: neighbor lists made by an engine (specification/descriptor.md 1 and 2.4)."""

from typing import NamedTuple

import numpy as np

from dpmodel.data.graph import Selection, assemble
from dpmodel.data.neighbors import ROUNDING, Edges
from dpmodel.errors import InputError
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
    x, ext_types, nlist, mapping = _checked(ext_coord, ext_types, nlist, mapping, selection.n_types)
    nf, nloc, _ = nlist.shape
    n_ext = ext_types.shape[1]
    frame, local, slot = np.nonzero(nlist >= 0)
    end = nlist[frame, local, slot]
    vector = x[frame, end] - x[frame, local]
    distance = np.sqrt(np.einsum("pk,pk->p", vector, vector))
    used = (distance <= selection.cutoff + ROUNDING) & (ext_types[frame, local] >= 0) & (ext_types[frame, end] >= 0)
    frame, local, end = frame[used], local[used], end[used]

    owner = mapping[frame, end]
    shift = x[frame, end] - x[frame, owner]
    edges = Edges(frame * nloc + local, frame * nloc + owner, shift, vector[used], distance[used])
    graph, layout = assemble(edges, ext_types[:, :nloc].reshape(-1), np.full(nf, nloc), selection, strict)
    center = (np.arange(nf)[:, None] * n_ext + np.arange(nloc)).reshape(-1)
    return graph._replace(
        fparam=None if fparam is None else np.asarray(fparam, dtype=float).reshape(nf, -1),
        aparam=None if aparam is None else np.asarray(aparam, dtype=float).reshape(nf * nloc, -1),
    ), ExtendedEdges(
        source=layout.padded(frame * n_ext + end, center),
        center=center,
        far=layout.padded(np.zeros_like(shift), np.broadcast_to(selection.far, (nf * nloc, 3))),
    )


def _checked(
    ext_coord: Array, ext_types: Array, nlist: Array, mapping: Array | None, n_types: int
) -> tuple[Array, Array, Array, Array]:
    """Arrays of one shape convention, indices in range; InputError otherwise."""
    types, nlist = np.asarray(ext_types, dtype=np.int64), np.asarray(nlist, dtype=np.int64)
    if types.ndim != 2 or nlist.ndim != 3 or len(nlist) != len(types) or nlist.shape[1] > types.shape[1]:
        raise InputError(
            f"expected ext_types (nf, nall) and nlist (nf, nloc <= nall, nnei), got {types.shape} and {nlist.shape}"
        )
    (nf, n_ext), nloc = types.shape, nlist.shape[1]
    x = np.asarray(ext_coord, dtype=np.float64)
    if x.shape not in ((nf, n_ext, 3), (nf, n_ext * 3)):
        raise InputError(f"expected ext_coord of shape {(nf, n_ext, 3)} or {(nf, n_ext * 3)}, got {x.shape}")
    if mapping is None and n_ext > nloc:
        raise InputError(
            f"there are {n_ext} extended atoms but {nloc} local ones: give mapping (nf, nall), the local atom that "
            "each extended atom is an image of. DPA-2 needs it because images carry the features of their originals"
        )
    mapping = np.arange(n_ext)[None].repeat(nf, 0) if mapping is None else np.asarray(mapping, dtype=np.int64)
    if mapping.shape != types.shape:
        raise InputError(f"expected mapping of shape {types.shape}, like ext_types, got {mapping.shape}")
    _check_range("nlist", nlist, -1, n_ext)
    _check_range("mapping", mapping, 0, nloc)
    if types.max() >= n_types:
        raise InputError(f"ext_types should be below {n_types}, the number of types, but reaches {types.max()}")
    return x.reshape(nf, n_ext, 3), types, nlist, mapping


def _check_range(name: str, index: Array, low: int, high: int) -> None:
    bad = np.argwhere((index < low) | (index >= high))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise InputError(f"{name}{list(place)} should lie between {low} and {high - 1}, got {index[place]}")
