"""Attention weights over neighbors, as if every list had all of its ``nsel`` slots.

deepmd-kit pads neighbor lists to ``nsel``; in smooth mode every empty slot has the logit ``-20``
exactly, and so enters every denominator.  Here those slots are never visited: they are counted
(specification/descriptor.md 9.3).
"""

from dpmodel.xp import Array, detach, namespace, shape, with_adjoint

SHIFT = 20.0  # logit of an empty slot, negated


def neighbor_weights(
    logits: Array,
    key: Array,
    query: Array | None,
    *,
    n_slots: int,
    smooth: bool,
    truncate: bool = True,
    gate: Array | None = None,
    factor: Array | None = None,
) -> Array:
    """Softmax over the last axis of ``logits`` (..., n), damped by the weights of key and query.

    ``key`` and ``query`` are the switch (smooth) or 0/1 masks, broadcastable to the shape of ``logits``
    (``query=None``: the query is the center itself, weight 1).  With ``truncate=False`` more than ``n_slots`` keys
    may be present and share the slots (specification/descriptor.md 12).

    ``gate`` multiplies the logits before all else, ``factor`` the weights after it; they are smaller than the logits
    (one for all heads), so they are merged with the damping before they meet them.
    """
    xp = namespace(logits)
    pair = key if query is None else key * query
    damping = pair if factor is None else pair * factor
    if not smooth:
        logits = logits if gate is None else logits * gate
        logits = xp.where(key > 0.0, logits, -6.0e4)  # exp gives exactly 0 beside any real key
        return softmax(logits, 0) * damping
    scale, shift = pair if gate is None else pair * gate, SHIFT * (pair - 1.0)
    if truncate:
        return scaled_softmax(logits, scale, shift, n_slots) * damping
    return crowded_softmax(logits * scale + shift, key, n_slots) * damping


def phantoms(key: Array, n_slots: int) -> int | Array:
    """Slots that no key has; as an array (..., 1) where a tracer does not know the number of keys."""
    n = shape(key)[-1]
    if isinstance(n, int):
        return n_slots - n
    return n_slots - namespace(key).sum(key * 0.0 + 1.0, axis=-1, keepdims=True)


def scaled_softmax(logits: Array, factor: Array, shift: Array, n_slots: int) -> Array:
    """``softmax(logits * factor + shift)`` over ``n_slots``, with its derivative in half of the passes over them."""

    def plain(logits: Array, factor: Array, shift: Array) -> Array:
        return softmax(logits * factor + shift, phantoms(shift, n_slots))

    return with_adjoint(plain, _softmax_adjoint)(logits, factor, shift)


def _softmax_adjoint(weights: Array, slope: Array, logits: Array, factor: Array, shift: Array) -> tuple[Array, ...]:
    """dz = p (dp - sum p dp) for z = logits * factor + shift; empty slots have no part in the sum."""
    part = slope * weights
    dz = part - weights * namespace(part).sum(part, axis=-1, keepdims=True)
    return _summed_to(dz * factor, logits), _summed_to(dz * logits, factor), _summed_to(dz, shift)


def _summed_to(x: Array, target: Array) -> Array:
    """``x`` summed along the axes where ``target`` has one element, which was broadcast."""
    axes = tuple(i for i, n in enumerate(shape(target)) if isinstance(n, int) and n == 1)
    return namespace(x).sum(x, axis=axes, keepdims=True) if axes else x


def softmax(logits: Array, phantoms: int | Array) -> Array:
    """Softmax over the last axis and ``phantoms`` further slots of logit -20, which get no weight themselves."""
    xp = namespace(logits)
    top = _top(logits)
    if isinstance(phantoms, int) and not phantoms:
        e = xp.exp(logits - top)
        return e / xp.sum(e, axis=-1, keepdims=True)
    bounded = xp.clip(top, -SHIFT, None)
    top = bounded if isinstance(phantoms, int) else xp.where(phantoms > 0.0, bounded, top)
    e = xp.exp(logits - top)
    return e / (xp.sum(e, axis=-1, keepdims=True) + phantoms * xp.exp(-SHIFT - bounded))


def crowded_softmax(logits: Array, key: Array, n_slots: int) -> Array:
    """Softmax in which keys of weight ``key`` share ``n_slots`` slots (specification/descriptor.md 12, item 3)."""
    xp = namespace(logits)
    theta = slot_occupancy(key, n_slots)
    top = xp.clip(_top(logits), -SHIFT, None)
    e, empty = xp.exp(logits - top), xp.exp(-SHIFT - top)
    safe = xp.where(theta > 0.0, theta, 1.0)
    # a slot that is only partly a key's own holds (e/P)^(1/theta) of its excess over an empty slot
    chi = xp.exp(xp.clip((logits + SHIFT) / safe, None, 0.0))
    held = theta * e + (1.0 - theta) * (e - empty) * xp.where(theta > 0.0, chi, 0.0)
    free = xp.clip(n_slots - xp.sum(theta, axis=-1, keepdims=True), 0.0, None)
    return e / (xp.sum(held, axis=-1, keepdims=True) + free * empty)


def _top(logits: Array) -> Array:
    return detach(namespace(logits).max(logits, axis=-1, keepdims=True))


# More keys than slots: how they share them (specification/descriptor.md 12, item 3)


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
