"""Occupancy: how keys share slots when there are more of them than slots (specification/descriptor.md 12, item 3)."""

from dpmodel.xp import Array, detach, namespace


def slot_occupancy(weight: Array, n_slots: int) -> Array:
    """Occupancy of each key, between 0 and 1, from its weight in [0, 1] (..., n), falling along the last axis.

    At most ``n_slots`` keys of positive weight: each has a slot of its own (1), the others none (0).  Otherwise
    ``min(u w, 1) (2 - min(u w, 1))`` with ``u`` such that the occupancies add up to ``n_slots``.

    With ``m`` keys saturated, ``u`` solves ``a u^2 - 2 b u + (n_slots - m) = 0``, where ``a`` and ``b`` are the sums of
    ``w^2`` and ``w`` over the others; the right ``m`` is the one that agrees with itself.  No iteration, and the
    derivative is that of the quadratic.
    """
    xp = namespace(weight)
    ones = xp.where(weight > 0.0, weight * 0.0 + 1.0, 0.0)
    crowded = xp.sum(ones, axis=-1, keepdims=True) > n_slots
    saturated = _saturated(detach(weight), n_slots)
    w = xp.where(saturated > 0.0, 0.0, weight)
    spare = n_slots - xp.sum(saturated, axis=-1, keepdims=True)
    a, b = xp.sum(w * w, axis=-1, keepdims=True), xp.sum(w, axis=-1, keepdims=True)
    b = xp.where(crowded, b, 1.0)  # where nothing is shared the quadratic means nothing: keep its root finite
    root = xp.where(crowded, b * b - a * spare, 1.0)
    t = w * spare / (b + xp.sqrt(xp.where(root > 0.0, root, 1.0e-30)))  # u w, by the stable form of the smaller root
    shared = xp.where(saturated > 0.0, 1.0, t * (2.0 - t))
    return xp.where(crowded, shared, ones)


def _saturated(w: Array, n_slots: int) -> Array:
    """1.0 for keys whose slot is wholly their own (``u w >= 1``): at ``u = 1/w`` the slots would not yet be full."""
    xp = namespace(w)
    ratio = xp.clip(w[..., None, :] / xp.where(w > 0.0, w, 1.0)[..., :, None], 0.0, 1.0)
    filled = xp.sum(ratio * (2.0 - ratio), axis=-1)
    own = (filled <= n_slots) & (w > 0.0)
    return xp.where(own, w * 0.0 + 1.0, 0.0)
