"""What a model is given: who neighbors whom."""

from typing import NamedTuple

from dpmodel.xp import Array


class Graph(NamedTuple):
    """Atoms of all frames on one axis, and their neighbors: all a model needs besides positions.

    ``N`` centers come first on an axis of ``A >= N`` atoms (``A > N`` only where a simulation engine
    hands over ghost atoms).  ``n`` is the widest real neighborhood, not ``nsel``.  Neighbors are sorted
    by distance, so the shorter list of a block is a leading slice of the widest.  An empty slot points at
    its own center and holds a ``shift`` beyond every cutoff, where switch and environment row are exactly zero.

    Nothing in here carries a derivative: positions enter as
    ``positions[neighbors] - positions[:N, None] + shift``.
    """

    types: Array  # (A,) int: index into the type map; n_types for a virtual atom
    neighbors: Array  # (N, n) int: index on the atom axis
    shift: Array  # (N, n, 3) float, angstrom: lattice translation of the neighbor's image
    repinit: Array  # (N, <=n) bool: slots that the repinit block uses
    three_body: Array | None  # (N, <=n) bool: the same for the three-body block, if the model has one
    repformer: Array  # (N, <=n) bool: the same for the repformer
    first_type: Array  # (N,) int: type of atom 0 of the same frame (specification/descriptor.md 5.4)
    frame: Array  # (N,) int: frame of each atom
    members: Array  # (nf, m) int: atoms of each frame; N where a frame has fewer than m
    fparam: Array | None = None  # (nf, k) float: frame parameters
    aparam: Array | None = None  # (N, k) float: atomic parameters
