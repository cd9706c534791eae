"""Attention among the neighbors of one center, gated by their directions (specification/descriptor.md 6).

This is DPA-1's block; the documentation of DPA-2 promises it inside repinit.
"""

from typing import Any

from dpmodel.initializers import Initializer
from dpmodel.module import module
from dpmodel.nn import LayerNorm, Linear
from dpmodel.ops.attention import neighbor_weights
from dpmodel.xp import Array, namespace


@module
class GatedAttention:
    """One layer: gg <- LayerNorm(gg + (weights @ v) W_out + b_out)."""

    in_proj: Linear
    out_proj: Linear
    norm: LayerNorm
    hidden: int
    scale: float
    normalize: bool
    dot_directions: bool
    smooth: bool
    truncate: bool
    n_slots: int

    @classmethod
    def make(
        cls,
        draw: Initializer,
        width: int,
        hidden: int,
        *,
        scaling_factor: float,
        temperature: float | None,
        eps: float,
        **settings: Any,
    ) -> "GatedAttention":
        return cls(
            in_proj=Linear.make(draw("in_proj"), width, 3 * hidden),
            out_proj=Linear.make(draw("out_proj"), hidden, width),
            norm=LayerNorm.make(draw("norm"), width, eps),
            hidden=hidden,
            scale=temperature if temperature is not None else (hidden * scaling_factor) ** -0.5,
            **settings,
        )

    def __call__(self, gg: Array, angular: Array, switch: Array, real: Array) -> Array:
        """``gg`` (N, n, ng), angular parts of the environment rows (N, n, 3), ``switch`` and ``real`` (N, n)."""
        xp = namespace(gg)
        z, h = self.in_proj(gg), self.hidden
        q, k, v = z[:, :, :h], z[:, :, h : 2 * h], z[:, :, 2 * h :]
        if self.normalize:
            q, k, v = (unit(part) for part in (q, k, v))
        w = switch if self.smooth else xp.astype(real, gg.dtype)
        u = unit(angular) if self.dot_directions else None
        a = neighbor_weights(
            (q * self.scale) @ xp.matrix_transpose(k),
            w[:, None, :],
            w[:, :, None],
            n_slots=self.n_slots,
            smooth=self.smooth,
            truncate=self.truncate,
            factor=None if u is None else u @ xp.matrix_transpose(u),
        )
        return self.norm(gg + self.out_proj(a @ v))


def unit(x: Array) -> Array:
    """``x`` over its length along the last axis; a length below 1e-12 counts as 1e-12."""
    xp = namespace(x)
    square = xp.sum(x * x, axis=-1, keepdims=True)
    tiny = square < 1.0e-24  # sqrt and its slope are kept away from zero
    return x * xp.where(tiny, 1.0e12, 1.0 / xp.sqrt(xp.where(tiny, 1.0, square)))
