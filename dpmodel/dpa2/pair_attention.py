"""Attention among the neighbors of a center, on the pair representation g2 (specification/descriptor.md 9.2.4).

Queries and keys meet only in ``q_j . k_k = g2_j M g2_k`` with ``M = Wq Wk^T / sqrt(d)``, and values only in
front of the head map, so the pairs of matrices are multiplied first: exact, and half of the work on edges.
Heads are the fastest index of every stored projection, and here come after the query: no array has to be transposed.
"""

from math import sqrt
from typing import Any

from dpmodel.initializers import Initializer
from dpmodel.module import module
from dpmodel.nn import Linear
from dpmodel.ops.attention import neighbor_weights
from dpmodel.xp import Array, namespace, shape


@module
class PairWeights:
    """Atten2Map: how much slot j of a center listens to slot k, for every head."""

    mapqk: Linear  # (g2, 2 * hidden * heads)
    hidden: int
    heads: int
    has_gate: bool
    n_slots: int
    smooth: bool
    truncate: bool

    @classmethod
    def make(cls, draw: Initializer, g2_dim: int, hidden: int, heads: int, **settings: Any) -> "PairWeights":
        mapqk = Linear.make(draw("mapqk"), g2_dim, 2 * hidden * heads, bias=False)
        return cls(mapqk=mapqk, hidden=hidden, heads=heads, **settings)

    def __call__(self, g2: Array, h2: Array, weight: Array) -> Array:
        """(N, n, heads, n) from g2 (N, n, g2_dim), h2 (N, n, 3) and the weights of the slots (N, n)."""
        xp = namespace(g2)
        n_centers, n, dim = shape(g2)
        heads = self.heads
        cosine = (h2 @ xp.matrix_transpose(h2))[:, :, None, :]
        queries = xp.reshape(xp.reshape(g2, (-1, dim)) @ self.folded(), (n_centers, n * heads, dim))
        logits = xp.reshape(queries @ xp.matrix_transpose(g2), (n_centers, n, heads, n))
        return neighbor_weights(
            logits,
            weight[:, None, None, :],
            weight[:, :, None, None],
            n_slots=self.n_slots,
            smooth=self.smooth,
            truncate=self.truncate,
            gate=cosine if self.has_gate else None,
            factor=cosine / sqrt(3.0),
        )

    def folded(self) -> Array:
        """M of every head, (g2_dim, heads * g2_dim)."""
        w = self.mapqk.weight
        xp, dim = namespace(w), self.mapqk.n_in
        w = xp.permute_dims(xp.reshape(w, (dim, self.hidden, 2 * self.heads)), (2, 0, 1))
        m = w[: self.heads, :, :] @ xp.matrix_transpose(w[self.heads :, :, :]) / sqrt(self.hidden)
        return xp.reshape(xp.permute_dims(m, (1, 0, 2)), (dim, self.heads * dim))


@module
class PairValues:
    """Atten2MultiHeadApply: the pair representations that the weights collect."""

    mapv: Linear  # (g2, g2 * heads)
    head_map: Linear  # (g2 * heads, g2)
    heads: int

    @classmethod
    def make(cls, draw: Initializer, g2_dim: int, heads: int) -> "PairValues":
        mapv = Linear.make(draw("mapv"), g2_dim, g2_dim * heads, bias=False)
        return cls(mapv=mapv, head_map=Linear.make(draw("head_map"), g2_dim * heads, g2_dim), heads=heads)

    def __call__(self, weights: Array, g2: Array) -> Array:
        """(N, n, g2_dim)."""
        xp = namespace(g2)
        n_centers, n, dim = shape(g2)
        heads = self.heads
        collected = xp.reshape(weights, (n_centers, n * heads, n)) @ g2
        collected = xp.reshape(collected, (n_centers * n, heads * dim))
        return self.head_map.finish(xp.reshape(collected @ self.folded(), (n_centers, n, dim)), None)

    def folded(self) -> Array:
        """Value and head map of every head in one matrix, (heads * g2_dim, g2_dim): values are made after the sum."""
        v, w = self.mapv.weight, self.head_map.weight
        xp, dim, heads = namespace(v), self.mapv.n_in, self.heads
        v = xp.permute_dims(xp.reshape(v, (dim, dim, heads)), (2, 0, 1))
        return xp.reshape(v @ xp.permute_dims(xp.reshape(w, (dim, heads, dim)), (1, 0, 2)), (heads * dim, dim))


@module
class PairVectors:
    """Atten2EquiVarApply: the pair directions that the weights collect."""

    head_map: Linear  # (heads, 1)

    @classmethod
    def make(cls, draw: Initializer, heads: int) -> "PairVectors":
        return cls(head_map=Linear.make(draw("head_map"), heads, 1, bias=False))

    def __call__(self, weights: Array, h2: Array) -> Array:
        """(N, n, 3)."""
        xp = namespace(h2)
        return xp.sum(weights * self.head_map.weight[None, None, :, :], axis=2) @ h2
