"""deepmd-kit's own interface: extended coordinates and a padded list of neighbors (specification/descriptor.md 1, 2.4).

It is what people compare against, so it takes and gives arrays of any library, and derivatives pass through.
"""

from collections.abc import Mapping

from dpmodel.errors import InputError
from dpmodel.graph import Block, Graph
from dpmodel.ops.arrays import gather
from dpmodel.ops.geometry import norm
from dpmodel.xp import Array, detach, like, namespace, shape


def graph_of_lists(
    coord_ext: Array, atype_ext: Array, nlist: Array, mapping: Array | None, blocks: Mapping[str, Block], *,
    n_types: int, truncate: bool,
) -> tuple[Graph, Array]:  # fmt: skip
    """The graph of a list of neighbors, and its edge vectors (N, n, 3) with the derivative by the coordinates.

    ``coord_ext`` (nf, nall, 3) or (nf, 3 nall), angstrom; ``atype_ext`` (nf, nall), negative for virtual atoms;
    ``nlist`` (nf, nloc, nnei) into the extended axis, -1 in empty slots, in any order; ``mapping`` (nf, nall) from
    extended to local atoms.  Raises InputError for shapes that do not fit.
    """
    nf, nall, nloc = _check(coord_ext, atype_ext, nlist, mapping)
    cutoff, n_slots = max(blocks.values())
    coord = namespace(coord_ext).reshape(coord_ext, (nf * nall, 3))
    xp = namespace(nlist)
    ints = like(nlist)
    row = xp.arange(nf * nloc, **ints)
    frame = row // nloc
    center = frame * nall + row % nloc
    nlist = xp.reshape(nlist, (nf * nloc, -1))
    if shape(nlist)[1] < n_slots:  # the outputs are as wide as nsel, whatever the list
        missing = n_slots - shape(nlist)[1]
        nlist = xp.concat([nlist, xp.full((nf * nloc, missing), -1, **ints)], axis=1)
    source = xp.where(nlist >= 0, nlist + frame[:, None] * nall, center[:, None])
    source, distance = _nearest(detach(coord), center, source, nlist >= 0, cutoff)
    if truncate:
        source, distance = source[:, :n_slots], distance[:, :n_slots]
    empty = distance > cutoff
    # an empty slot looks at its own center, from beyond every cutoff
    vectors = gather(coord, source) - gather(coord, center)[:, None, :]
    far = namespace(distance).astype(empty, vectors.dtype) * (2.0 * cutoff + 1.0)
    vectors = vectors + far[:, :, None]
    local = row if mapping is None else xp.reshape(mapping + xp.arange(nf, **ints)[:, None] * nloc, (-1,))
    neighbors = xp.where(empty, row[:, None], gather(local, source))
    types = xp.reshape(atype_ext, (-1,))
    graph = Graph(
        types=gather(xp.where(types < 0, n_types, types), center),
        neighbors=neighbors,
        shift=vectors * 0.0,
        blocks={name: _mask(distance, block, truncate) for name, block in blocks.items()},
        first_type=gather(xp.where(types < 0, 0, types), frame * nall),
        frame=frame,
        members=xp.reshape(row, (nf, nloc)),
    )
    return graph, vectors


def _nearest(coord: Array, center: Array, source: Array, occupied: Array, cutoff: float) -> tuple[Array, Array]:
    """Slots sorted by distance; empty ones and those beyond ``cutoff`` are infinitely far and come last."""
    xp = namespace(coord)
    vectors = gather(coord, source) - gather(coord, center)[:, None, :]
    distance = norm(vectors)
    distance = xp.where(occupied & (distance <= cutoff), distance, float("inf"))
    rows, width = shape(distance)
    order = xp.argsort(distance, axis=1, stable=True)
    index = xp.reshape(xp.arange(rows, **like(order)) * width, (rows, 1)) + order
    return gather(xp.reshape(source, (-1,)), index), gather(xp.reshape(distance, (-1,)), index)


def _mask(distance: Array, block: Block, truncate: bool) -> Array:
    cutoff, n_slots = block
    return (distance[:, :n_slots] if truncate else distance) <= cutoff


def _check(coord_ext: Array, atype_ext: Array, nlist: Array, mapping: Array | None) -> tuple[int, int, int]:
    """(nf, nall, nloc), or InputError."""
    if len(shape(atype_ext)) != 2 or len(shape(nlist)) != 3 or shape(nlist)[0] != shape(atype_ext)[0]:
        raise InputError(
            f"atype_ext should be (nf, nall) and nlist (nf, nloc, nnei), got {shape(atype_ext)} and {shape(nlist)}"
        )
    (nf, nall), nloc = shape(atype_ext), shape(nlist)[1]
    if shape(coord_ext) not in ((nf, nall, 3), (nf, nall * 3)):
        raise InputError(f"coord_ext should be {(nf, nall, 3)} or {(nf, nall * 3)}, got {shape(coord_ext)}")
    if mapping is None and nall > nloc:
        raise InputError(
            f"mapping (nf, nall) is needed: the {nall - nloc} ghost atoms have the features of local atoms"
        )
    if mapping is not None and shape(mapping) != (nf, nall):
        raise InputError(f"mapping should be {(nf, nall)}, got {shape(mapping)}")
    return nf, nall, nloc
