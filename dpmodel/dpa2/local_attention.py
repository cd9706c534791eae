"""Attention of a center to its neighbors, on the single-atom representation g1 (specification/descriptor.md 9.2.3).

Keys and values are linear in the neighbors' g1: the query is carried to g1 instead, and the
weighted neighbors are summed before the value map.  No key and no value is ever made for an edge.
"""

from math import sqrt
from typing import Any

from dpmodel.initializers import Initializer
from dpmodel.module import module
from dpmodel.nn import Linear
from dpmodel.ops.attention import neighbor_weights
from dpmodel.xp import Array, namespace, shape


@module
class LocalAttention:
    """LocalAtten; heads are the fastest index of the projections and the slowest of the output."""

    mapq: Linear  # (g1, hidden * heads)
    mapkv: Linear  # (g1, (hidden + g1) * heads)
    head_map: Linear  # (g1 * heads, g1)
    hidden: int
    heads: int
    n_slots: int
    smooth: bool
    truncate: bool

    @classmethod
    def make(cls, draw: Initializer, g1_dim: int, hidden: int, heads: int, **settings: Any) -> "LocalAttention":
        return cls(
            mapq=Linear.make(draw("mapq"), g1_dim, hidden * heads, bias=False),
            mapkv=Linear.make(draw("mapkv"), g1_dim, (hidden + g1_dim) * heads, bias=False),
            head_map=Linear.make(draw("head_map"), g1_dim * heads, g1_dim),
            hidden=hidden,
            heads=heads,
            **settings,
        )

    def __call__(self, g1: Array, gg1: Array, weight: Array) -> Array:
        """(N, g1_dim) from g1 (N, g1_dim), that of the neighbors (N, n, g1_dim), and the slots' weights (N, n)."""
        xp = namespace(g1)
        n_centers, dim = shape(g1)
        key, value = self.key_and_value()
        q = xp.permute_dims(xp.reshape(self.mapq(g1), (n_centers, self.hidden, self.heads)), (2, 0, 1))
        q = xp.permute_dims(q @ key, (1, 0, 2)) / sqrt(self.hidden)  # (N, heads, g1_dim)
        a = neighbor_weights(
            q @ xp.matrix_transpose(gg1),
            weight[:, None, :],
            None,
            n_slots=self.n_slots,
            smooth=self.smooth,
            truncate=self.truncate,
        )
        o = xp.permute_dims(a @ gg1, (1, 0, 2)) @ value  # (heads, N, g1_dim)
        return self.head_map(xp.reshape(xp.permute_dims(o, (1, 0, 2)), (n_centers, self.heads * dim)))

    def key_and_value(self) -> tuple[Array, Array]:
        """Key map transposed (heads, hidden, g1_dim) and value map (heads, g1_dim, g1_dim)."""
        w = self.mapkv.weight
        xp, dim = namespace(w), self.mapkv.n_in
        w = xp.permute_dims(xp.reshape(w, (dim, self.hidden + dim, self.heads)), (2, 0, 1))
        return xp.matrix_transpose(w[:, :, : self.hidden]), w[:, :, self.hidden :]
