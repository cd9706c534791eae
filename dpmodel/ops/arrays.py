"""Gathers, and sums by frame."""

from dpmodel.xp import Array, like, namespace, shape


def gather(x: Array, index: Array) -> Array:
    """``x[index]`` along the first axis: (A, \\*c) and int (\\*b) give (\\*b, \\*c)."""
    xp = namespace(x)
    rows = xp.take(x, xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(rows, (*shape(index), *shape(x)[1:]))


def append_row(x: Array, value: float) -> Array:
    """(n, k) with one more row full of ``value``: the row of virtual atoms."""
    xp = namespace(x)
    return xp.concat([x, xp.full((1, shape(x)[1]), value, **like(x))], axis=0)


def frame_sum(x: Array, members: Array) -> Array:
    """Sum over the atoms of each frame: (N, \\*c) and (nf, m) give (nf, \\*c); ``N`` in ``members`` adds nothing."""
    xp = namespace(x)
    flat = xp.reshape(x, (shape(x)[0], -1))
    total = xp.sum(gather(append_row(flat, 0.0), members), axis=1)
    return xp.reshape(total, (shape(members)[0], *shape(x)[1:]))
