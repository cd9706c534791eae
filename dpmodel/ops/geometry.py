"""From edge vectors to environment rows (specification/descriptor.md 3)."""

from typing import NamedTuple

from dpmodel.ops.arrays import append_row, gather
from dpmodel.xp import Array, namespace


class Environment(NamedTuple):
    """The environment of each center in a block; slots that are not real hold zeros in rows and switch."""

    rows: Array  # (N, n, 4) normalized environment rows
    switch: Array  # (N, n) between 0 and 1
    distance: Array  # (N, n) angstrom
    real: Array  # (N, n) bool: occupied and not excluded


def norm(v: Array) -> Array:
    """Length along the last axis; its slope at zero is infinite, so no vector here is ever zero."""
    xp = namespace(v)
    return xp.sqrt(xp.sum(v * v, axis=-1))


def switch(r: Array, smooth_cutoff: float, cutoff: float) -> Array:
    """1 below ``smooth_cutoff``, 0 above ``cutoff``, twice differentiable in between."""
    xp, width = namespace(r), cutoff - smooth_cutoff
    u = xp.clip((r - smooth_cutoff) / width, 0.0, 1.0)
    v = xp.clip((cutoff - r) / width, 0.0, 1.0)
    # the same polynomial from either end, each half from where it and its slope keep all their digits
    return xp.where(u < 0.5, 1.0 - _rise(u), _rise(v))


def _rise(u: Array) -> Array:
    """From 0 at 0 to 1 at 1, with two vanishing derivatives at both ends."""
    return u * u * u * ((6.0 * u - 15.0) * u + 10.0)


def environment(
    vectors: Array, real: Array, mean: Array, stddev: Array, smooth_cutoff: float, cutoff: float, protection: float
) -> Environment:
    """Environment of every slot from edge vectors (N, n, 3), with the center's statistics (N, 4)."""
    xp = namespace(vectors)
    r = norm(vectors)
    s = switch(r, smooth_cutoff, cutoff)
    inverse = 1.0 / (r + protection)
    radial, angular = (s * inverse)[:, :, None], (s * inverse * inverse)[:, :, None] * vectors
    rows = (xp.concat([radial, angular], axis=-1) - mean[:, None, :]) / stddev[:, None, :]
    return Environment(xp.where(real[:, :, None], rows, 0.0), xp.where(real, s, 0.0), r, real)


def statistics_of(types: Array, mean: Array, stddev: Array) -> tuple[Array, Array]:
    """Statistics of each center (N, 4); virtual centers (type n_types) have mean 0 and deviation 1."""
    return gather(append_row(mean, 0.0), types), gather(append_row(stddev, 1.0), types)
