"""The graph that a model is evaluated on, and which neighbors a model asks for."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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
    blocks: dict[str, Array]  # (N, <=n) bool: the slots that each block of the descriptor uses
    first_type: Array  # (N,) int: type of atom 0 of the same frame (specification/descriptor.md 5.4)
    frame: Array  # (N,) int: frame of each atom
    members: Array  # (nf, m) int: atoms of each frame; N where a frame has fewer than m
    fparam: Array | None = None  # (nf, k) float: frame parameters
    aparam: Array | None = None  # (N, k) float: atomic parameters


class Block(NamedTuple):
    """The neighbors of one block of a descriptor: the ``nsel`` nearest within ``cutoff`` angstrom."""

    cutoff: float
    nsel: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The neighbors that a model asks for, by the blocks of its descriptor.

    ``pair_exclude``: pairs of types that do not see each other (the model's ``pair_exclude_types``).
    ``truncate``: keep the ``nsel`` nearest only, as deepmd-kit does, rather than all within the cutoff.
    """

    blocks: dict[str, Block]
    n_types: int
    pair_exclude: tuple[tuple[int, int], ...] = ()
    truncate: bool = True

    @property
    def widest(self) -> Block:
        """The block whose list the others are taken from."""
        return max(self.blocks.values())

    @property
    def cutoff(self) -> float:
        """The longest edge, angstrom."""
        return self.widest.cutoff

    @property
    def far(self) -> Array:
        """(3,) the shift of empty slots: beyond every cutoff, angstrom."""
        return np.array([2.0 * self.cutoff + 1.0, 0.0, 0.0])
