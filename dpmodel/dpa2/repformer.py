"""repformer: layers that refine atoms (g1), pairs (g2) and directions (h2) together (specification/descriptor.md 9).

Every update of a layer is computed from the layer's input; the last layer updates g1 alone.
"""

from math import sqrt
from typing import NamedTuple

from dpmodel.dpa2.local_attention import LocalAttention
from dpmodel.dpa2.neighborhood import Neighborhood, environment_of
from dpmodel.dpa2.pair_attention import PairValues, PairVectors, PairWeights
from dpmodel.module import buffer, module, param
from dpmodel.nn import LayerNorm, Linear
from dpmodel.xp import Array, namespace, shape


class Slots(NamedTuple):
    """The weight of each slot of a center, and what sums over the slots are divided by."""

    weight: Array  # (N, n) switch (smooth) or 0/1
    mean: Array  # (N, 1, 1) factor of an average over neighbors
    moment: Array  # (N, 1, 1) the same for the moments h2 (x) g


def moment(h2: Array, g: Array, slots: Slots) -> Array:
    """hg: sum_j w_j h2_j (x) g_j, (N, 3, d)."""
    xp = namespace(h2)
    return xp.matrix_transpose(h2 * slots.weight[:, :, None]) @ g * slots.moment


def invariant(h: Array, axis: int) -> Array:
    """grrg: the scalar products of a moment's columns with its first ``axis``, (N, axis * d)."""
    xp = namespace(h)
    m = xp.matrix_transpose(h[:, :, :axis]) @ h / 3.0
    return xp.reshape(m, (shape(h)[0], -1))


@module
class RepformerLayer:
    """One layer; a term of an update is there if its parameters are."""

    linear1: Linear
    self_mlp: Linear | None
    proj_g1g2: Linear | None
    attn1: LocalAttention | None
    linear2: Linear | None  # None: the last layer, which leaves g2 and h2 alone
    proj_g1g1g2: Linear | None
    pair_weights: PairWeights | None
    pair_values: PairValues | None
    pair_norm: LayerNorm | None
    pair_vectors: PairVectors | None
    g1_residual: tuple[Array, ...] = param("g1_dim")
    g2_residual: tuple[Array, ...] = param("g2_dim")
    h2_residual: tuple[Array, ...] = param("1")
    g1_terms: tuple[str, ...]  # the term that each residual vector weighs
    g2_terms: tuple[str, ...]
    h2_terms: tuple[str, ...]
    g1_dim: int
    g2_dim: int
    axis: int
    has_grrg: bool
    has_drrd: bool
    out_conv: bool
    update_style: str

    def __call__(self, g1: Array, g2: Array, h2: Array, gg1: Array, slots: Slots) -> tuple[Array, Array, Array]:
        """g1 (N, g1_dim), g2 (N, n, g2_dim), h2 (N, n, 3), and the neighbors' g1 ``gg1`` (N, n, g1_dim)."""
        new_g1 = self.update_g1(g1, g2, h2, gg1, slots)
        if self.linear2 is None:
            return new_g1, g2, h2
        return new_g1, *self.update_pairs(g1, g2, h2, gg1, slots)

    def update_g1(self, g1: Array, g2: Array, h2: Array, gg1: Array, slots: Slots) -> Array:
        xp = namespace(g1)
        terms: dict[str, Array] = {}
        inputs = []
        if self.self_mlp is not None:
            terms["self_mlp"] = self.self_mlp(g1)
        else:
            inputs.append(g1)
        if self.proj_g1g2 is not None and self.out_conv:
            terms["convolution"] = self.convolution(g2, gg1, slots)
        elif self.proj_g1g2 is not None:
            inputs.append(self.convolution(g2, gg1, slots))
        if self.has_grrg:
            inputs.append(invariant(moment(h2, g2, slots), self.axis))
        if self.has_drrd:
            inputs.append(invariant(moment(h2, gg1, slots), self.axis))
        terms["linear1"] = self.linear1(xp.concat(inputs, axis=-1))
        if self.attn1 is not None:
            terms["attn1"] = self.attn1(g1, gg1, slots.weight)
        return self.combine(g1, terms, self.g1_terms, self.g1_residual)

    def convolution(self, g2: Array, gg1: Array, slots: Slots) -> Array:
        """Average of g2 times g1 over the neighbors, one of them projected to the other's width."""
        xp = namespace(g2)
        assert self.proj_g1g2 is not None
        weighted = g2 * (slots.weight[:, :, None] * slots.mean)
        if self.out_conv:
            return xp.sum(self.proj_g1g2(weighted) * gg1, axis=1)
        # projected after the sum: as much work on pairs of widths as there is on edges, and no projection of any edge
        correlation = xp.matrix_transpose(weighted) @ gg1  # (N, g2_dim, g1_dim)
        return xp.sum(correlation * xp.matrix_transpose(self.proj_g1g2.weight)[None, :, :], axis=2)

    def update_pairs(self, g1: Array, g2: Array, h2: Array, gg1: Array, slots: Slots) -> tuple[Array, Array]:
        assert self.linear2 is not None
        g2_terms, h2_terms = {"linear2": self.linear2(g2)}, {}
        if self.proj_g1g1g2 is not None:
            g2_terms["g1g1"] = self.proj_g1g1g2(g1[:, None, :] * gg1 * slots.weight[:, :, None])
        if self.pair_weights is not None:
            weights = self.pair_weights(g2, h2, slots.weight)
            if self.pair_values is not None and self.pair_norm is not None:
                g2_terms["attention"] = self.pair_norm(self.pair_values(weights, g2))
            if self.pair_vectors is not None:
                h2_terms["attention"] = self.pair_vectors(weights, h2)
        new_g2 = self.combine(g2, g2_terms, self.g2_terms, self.g2_residual)
        return new_g2, self.combine(h2, h2_terms, self.h2_terms, self.h2_residual)

    def combine(self, x: Array, terms: dict[str, Array], names: tuple[str, ...], residual: tuple[Array, ...]) -> Array:
        """``x`` and the ``terms`` that update it (specification/descriptor.md 9.2.5); ``residual`` weighs ``names``."""
        if not terms:
            return x
        if self.update_style == "res_residual":
            weight = dict(zip(names, residual, strict=True))
            for name, term in terms.items():
                x = x + weight[name] * term
            return x
        first, *rest = terms.values()
        total = first
        for term in rest:
            total = total + term
        if self.update_style == "res_incr":
            return x + total / sqrt(len(terms))
        return (x + total) / sqrt(len(terms) + 1)


@module
class Repformer:
    """The layers, and the pair representation that they start from."""

    mean: Array = buffer("n_types 4")
    stddev: Array = buffer("n_types 4")
    g2_embedding: Linear
    layers: tuple[RepformerLayer, ...]
    n_types: int
    n_slots: int  # nsel
    cutoff: float  # angstrom
    smooth_cutoff: float  # angstrom
    smooth: bool
    protection: float  # angstrom
    excluded: tuple[tuple[int, int], ...]
    direct_distance: bool
    sqrt_counts: bool

    def start(self, near: Neighborhood) -> tuple[Array, Array, Array, Slots]:
        """(g2, h2, switch, slots) before the first layer."""
        env = environment_of(self, near)
        if self.direct_distance:
            radial, h2 = env.distance[:, :, None] / self.cutoff, near.vectors / self.cutoff
        else:
            radial, h2 = env.rows[:, :, :1], env.rows[:, :, 1:]
        mask = namespace(env.real).astype(env.real, env.switch.dtype)
        return self.g2_embedding(radial), h2, env.switch, self.slots(env.switch, mask)

    def slots(self, switch: Array, mask: Array) -> Slots:
        """In smooth mode sums are divided by nsel, else by the number of neighbors."""
        xp = namespace(switch)
        count = xp.sum(mask, axis=1)[:, None, None]
        if self.smooth:
            count = count * 0.0 + float(self.n_slots)
            return Slots(switch, 1.0 / count, 1.0 / (xp.sqrt(count) if self.sqrt_counts else count))
        # the count is kept away from zero under the square root, whose slope there is infinite
        root = xp.where(count > 0.0, xp.sqrt(xp.where(count > 0.0, count, 1.0)), 0.0)
        return Slots(mask, 1.0 / (1.0e-4 + count), 1.0 / (1.0e-4 + (root if self.sqrt_counts else count)))
