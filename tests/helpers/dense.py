"""The DPA-2 descriptor as the specification writes it: one center at a time, every one of the ``nsel`` slots visited.

Slow, plain NumPy, and independent of dpmodel except that it reads the arrays of its modules: neighbors by brute force,
padding as padding, no closed form for empty slots, products in the order of the text (specification/descriptor.md).
"""

from typing import Any, NamedTuple

import numpy as np

from dpmodel.io.deepmd import ModelFile

Array = np.ndarray
SHIFT = 20.0


# --- networks (model.md 1) ---


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def silut(x: Array, threshold: float = 3.0) -> Array:
    s = sigmoid(np.array(threshold))
    slope = s + threshold * s * (1 - s)
    return np.where(x < threshold, x * sigmoid(x), np.tanh(slope * (x - threshold)) + threshold * s)


PHI: dict[str, Any] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "silut": silut,
    "none": lambda x: x,
}
PHI |= {"gelu_tf": PHI["gelu"], "custom_silu": silut, "linear": PHI["none"]}


def phi(name: str, x: Array) -> Array:
    base, _, threshold = name.partition(":")
    return silut(x, float(threshold)) if threshold else PHI[base](x)


def layer(m: Any, x: Array) -> Array:
    y = x @ m.weight
    y = phi(m.activation, y if m.bias is None else y + m.bias)
    y = y if m.idt is None else y * m.idt
    if m.resnet and m.n_out == m.n_in:
        return y + x
    return y + np.concatenate([x, x], axis=-1) if m.resnet and m.n_out == 2 * m.n_in else y


def network(m: Any, x: Array) -> Array:
    for each in m.layers:
        x = layer(each, x)
    return x


def layer_norm(m: Any, x: Array) -> Array:
    mean = np.mean(x, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(np.mean((x - mean) ** 2, axis=-1, keepdims=True) + m.eps) * m.weight + m.bias


# --- attention weights (6, 9.2, 12) ---


def attend(logits: Array, key: Array, query: Array, block: "Block") -> Array:
    """Softmax over the last axis of (j, k), with weights ``key`` (k,) and ``query`` (j,) of the slots."""
    pair = query[:, None] * key[None, :]
    if not block.smooth:
        logits = np.where(key > 0, logits, -np.inf)
        e = np.exp(logits - np.max(logits, axis=-1, keepdims=True, initial=-1e3))
        return e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-300) * pair
    logits = (logits + SHIFT) * pair - SHIFT
    top = np.maximum(np.max(logits, axis=-1, keepdims=True), -SHIFT)
    e, empty = np.exp(logits - top), np.exp(-SHIFT - top)
    if block.truncate:
        return e / e.sum(axis=-1, keepdims=True) * pair
    theta = occupancy(key, block.nsel)
    chi = np.exp(np.minimum(logits + SHIFT, 0.0) / np.where(key > 0, theta, 1.0))
    held = np.where(key > 0, theta * e + (1 - theta) * (e - empty) * chi, 0.0)
    return e / (held.sum(axis=-1, keepdims=True) + max(block.nsel - theta.sum(), 0.0) * empty) * pair


def occupancy(key: Array, capacity: int) -> Array:
    """How far each key has a slot: all that have a weight if they fit, else h(u w) with the u that fills all slots."""
    positive = (key > 0).astype(float)
    if positive.sum() <= capacity:
        return positive

    def theta(u: float) -> Array:
        t = np.minimum(u * key, 1.0)
        return t * (2.0 - t) * positive

    low, high = 0.0, 1.0
    while theta(high).sum() < capacity:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if theta(middle).sum() < capacity else (low, middle)
    return theta(0.5 * (low + high))


# --- neighbors and slots (2, 3) ---


class Block(NamedTuple):
    """What a block says of its slots; ``m`` holds its statistics."""

    m: Any
    rcut: float
    rcut_smth: float
    nsel: int
    smooth: bool
    protection: float
    excluded: tuple[tuple[int, int], ...]
    leak: bool
    truncate: bool


class Slots(NamedTuple):
    """Of one center: ``nsel`` of them, or without truncation as many as there are neighbors if that is more."""

    em: Array  # (n, 4)
    sw: Array  # (n,)
    real: Array  # (n,) 0 or 1
    types: Array  # (n,)
    atom: Array  # (n,) int
    vector: Array  # (n, 3)


def neighbors(
    positions: Array, types: Array, cell: Array | None, i: int, rcut: float
) -> list[tuple[float, int, Array]]:
    """(distance, atom, vector) of all that are near, nearest first, by looking everywhere."""
    shifts = np.zeros((1, 3))
    if cell is not None:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        spread = np.ptp(positions @ np.linalg.inv(cell), axis=0)
        most = np.ceil(rcut / heights + spread).astype(int)
        shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most]), axis=-1).reshape(-1, 3) @ cell
    found = []
    for j in range(len(positions)):
        for shift in shifts:
            d = positions[j] + shift - positions[i]
            r = float(np.sqrt(d @ d))
            if r <= rcut and types[j] >= 0 and not (j == i and r < 1e-9):
                found.append((r, j, d))
    # where the text leaves the order open (an atom's own images come in pairs), dpmodel goes along this direction
    return sorted(found, key=lambda entry: (round(entry[0], 8), entry[2] @ np.sqrt([1.0, 2.0, 3.0])))


def slots(near: list[tuple[float, int, Array]], types: Array, i: int, b: Block) -> Slots:
    near = [entry for entry in near if entry[0] <= b.rcut]
    near = near[: b.nsel] if b.truncate else near
    n = max(b.nsel, len(near))
    em, sw, real = np.zeros((n, 4)), np.zeros(n), np.zeros(n)
    atom, vector = np.zeros(n, dtype=int), np.zeros((n, 3))
    for k, (r, j, d) in enumerate(near):
        v = min(max((b.rcut - r) / (b.rcut - b.rcut_smth), 0.0), 1.0)
        sw[k] = 10 * v**3 - 15 * v**4 + 6 * v**5  # the specification's polynomial with u = 1 - v
        p = r + b.protection
        em[k] = sw[k] * np.array([1 / p, *(d / p**2)])
        atom[k], vector[k], real[k] = j, d, 1.0
    em = (em - b.m.mean[types[i]]) / b.m.stddev[types[i]]
    if not b.leak:
        em[len(near) :] = 0.0
    excluded = {pair for a, c in b.excluded for pair in ((a, c), (c, a))}
    for k in range(len(near)):
        if (types[i], types[atom[k]]) in excluded:
            em[k], sw[k], real[k] = 0.0, 0.0, 0.0
    return Slots(em, sw, real, np.maximum(types[atom], 0), atom, vector)  # empty slots hold atom 0


# --- repinit and three-body (5-7) ---


def strip_factor(gs: Array, gt: Array, sw: Array, smooth: bool) -> Array:
    return gs * (gt * sw[..., None] if smooth else gt) + gs


def repinit(m: Any, s: Slots, t_i: int, b: Block, table: Array) -> Array:
    radial, tj = s.em[:, :1], table[s.types]
    ti = np.broadcast_to(table[t_i], tj.shape)
    features = [tj] if m.one_side else [tj, ti]
    if b.m.strip is None:
        gg = network(b.m.embedding, np.concatenate([radial, *features], axis=1))
    else:
        gt = network(b.m.strip, np.concatenate(features, axis=1))
        gg = strip_factor(network(b.m.embedding, radial), gt, s.sw, b.smooth)
    for each in m.attention:
        gg = gated_attention(each, gg, s, b)
    gr = np.zeros((gg.shape[1], 4))
    for k in range(len(gg)):
        gr += np.outer(gg[k], s.em[k])
    gr /= b.nsel
    return (gr @ gr[: m.axis].T).reshape(-1)


def gated_attention(m: Any, gg: Array, s: Slots, b: Block) -> Array:
    h = m.hidden
    z = gg @ m.in_proj.weight + m.in_proj.bias
    q, k, v = z[:, :h], z[:, h : 2 * h], z[:, 2 * h :]
    if m.normalize:
        q, k, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k, v))
    w = s.sw if b.smooth else s.real
    a = attend(m.scale * q @ k.T, w, w, b)
    if m.dot_directions:
        u = s.em[:, 1:] / np.maximum(np.linalg.norm(s.em[:, 1:], axis=1, keepdims=True), 1e-12)
        a = a * (u @ u.T)
    return layer_norm(m.norm, gg + (a @ v) @ m.out_proj.weight + m.out_proj.bias)


def three_body(m: Any, s: Slots, b: Block, table: Array) -> Array:
    n = len(s.em)
    total = np.zeros(m.near.embedding.layers[-1].n_out)
    for j in range(n):
        c = (s.em[:, 1:] @ s.em[j, 1:])[:, None]  # of j with every k
        tj, tk = np.broadcast_to(table[s.types[j]], (n, table.shape[1])), table[s.types]
        if b.m.strip is None:
            g = network(b.m.embedding, np.concatenate([c, tj, tk], axis=1))
        else:
            gt = network(b.m.strip, np.concatenate([tj, tk], axis=1))
            g = strip_factor(network(b.m.embedding, c), gt, s.sw[j] * s.sw, b.smooth)
        total += (c * g).sum(axis=0)
    return total / b.nsel**2


# --- repformer (9) ---


def moment(g: Array, h2: Array, s: Slots, b: Block, use_sqrt: bool) -> Array:
    w, n = (s.sw, float(b.nsel)) if b.smooth else (s.real, s.real.sum())
    total = np.zeros((3, g.shape[1]))
    for k in range(len(g)):
        total += w[k] * np.outer(h2[k], g[k])
    n = np.sqrt(n) if use_sqrt else n
    return total / (n if b.smooth else 1e-4 + n)


def grrg(h: Array, axis: int) -> Array:
    return (h[:, :axis].T @ h / 3.0).reshape(-1)


def convolution(m: Any, g2: Array, gg1: Array, s: Slots, b: Block) -> Array:
    w, n = (s.sw, b.nsel) if b.smooth else (s.real, 1e-4 + s.real.sum())
    p = m.proj_g1g2.weight
    each = (g2 @ p) * gg1 if m.out_conv else g2 * (gg1 @ p)
    return (w[:, None] * each).sum(axis=0) / n


def local_attention(m: Any, g1_i: Array, gg1: Array, s: Slots, b: Block) -> Array:
    ni, nd, nh = len(g1_i), m.hidden, m.heads
    q = (g1_i @ m.mapq.weight).reshape(nd, nh)
    kv = (gg1 @ m.mapkv.weight).reshape(-1, nd + ni, nh)
    out = np.zeros((nh, ni))
    for h in range(nh):
        logits = kv[:, :nd, h] @ q[:, h] / np.sqrt(nd)
        a = attend(logits[None, :], s.sw if b.smooth else s.real, np.ones(1), b)[0]
        out[h] = a @ kv[:, nd:, h]
    return layer(m.head_map, out.reshape(nh * ni))


def pair_attention(m: Any, g2: Array, h2: Array, s: Slots, b: Block) -> Array:
    """AA (heads, j, k)."""
    nd, nh = m.hidden, m.heads
    qk = (g2 @ m.mapqk.weight).reshape(-1, nd, 2 * nh)
    cosine, w = h2 @ h2.T, s.sw if b.smooth else s.real
    every = []
    for h in range(nh):
        logits = qk[:, :, h] @ qk[:, :, nh + h].T / np.sqrt(nd)
        every.append(attend(logits * cosine if m.has_gate else logits, w, w, b) * cosine / np.sqrt(3.0))
    return np.array(every)


def pair_values(m: Any, aa: Array, g2: Array) -> Array:
    dim = g2.shape[1]
    v = (g2 @ m.mapv.weight).reshape(-1, dim, m.heads)
    out = np.zeros((len(g2), dim, m.heads))
    for h in range(m.heads):
        out[:, :, h] = aa[h] @ v[:, :, h]
    return layer(m.head_map, out.reshape(len(g2), -1))


def pair_vectors(m: Any, aa: Array, h2: Array) -> Array:
    return sum(m.head_map.weight[h, 0] * (aa[h] @ h2) for h in range(len(aa)))


def combine(terms: list[Array], residual: tuple[Array, ...], style: str) -> Array:
    if style == "res_residual":
        return terms[0] + sum((r * u for r, u in zip(residual, terms[1:], strict=True)), np.zeros(()))
    if style == "res_incr":
        return terms[0] + sum(terms[1:], np.zeros(())) / np.sqrt(max(len(terms) - 1, 1))
    return sum(terms, np.zeros(())) / np.sqrt(len(terms))


def refine(
    m: Any, g1_i: Array, g2: Array, h2: Array, gg1: Array, s: Slots, b: Block, use_sqrt: bool
) -> tuple[Array, ...]:
    """One layer for one center: new (g1, g2, h2)."""
    terms, inputs = [g1_i], []
    if m.self_mlp is None:
        inputs.append(g1_i)
    else:
        terms.append(layer(m.self_mlp, g1_i))
    if m.proj_g1g2 is not None:
        (terms if m.out_conv else inputs).append(convolution(m, g2, gg1, s, b))
    if m.has_grrg:
        inputs.append(grrg(moment(g2, h2, s, b, use_sqrt), m.axis))
    if m.has_drrd:
        inputs.append(grrg(moment(gg1, h2, s, b, use_sqrt), m.axis))
    terms.append(layer(m.linear1, np.concatenate(inputs)))
    if m.attn1 is not None:
        terms.append(local_attention(m.attn1, g1_i, gg1, s, b))
    new_g1 = combine(terms, m.g1_residual, m.update_style)
    if m.linear2 is None:
        return new_g1, g2, h2
    terms, turned = [g2, layer(m.linear2, g2)], [h2]
    if m.proj_g1g1g2 is not None:
        w = s.sw if b.smooth else s.real
        terms.append(layer(m.proj_g1g1g2, g1_i * gg1 * w[:, None]))
    if m.pair_weights is not None:
        aa = pair_attention(m.pair_weights, g2, h2, s, b)
        if m.pair_values is not None:
            terms.append(layer_norm(m.pair_norm, pair_values(m.pair_values, aa, g2)))
        if m.pair_vectors is not None:
            turned.append(pair_vectors(m.pair_vectors, aa, h2))
    return new_g1, combine(terms, m.g2_residual, m.update_style), combine(turned, m.h2_residual, m.update_style)


# --- the whole (4, 8-10) ---


def type_table(m: Any) -> Array:
    x = np.eye(m.n_types) if m.features is None else m.features
    return np.concatenate([layer(m.layer, x), np.zeros((1, m.layer.n_out))])


def blocks(file: ModelFile) -> list[Block]:
    """repinit, repformer, and three-body if there is one."""
    s, m = file.settings.descriptor, file.model.descriptor
    near, far = s.repinit, s.repformer

    sizes: list[Any] = [(near.rcut, near.rcut_smth, near.nsel), (far.rcut, far.rcut_smth, far.nsel)]
    parts: list[Any] = [m.repinit.near, m.repformer]
    if m.three_body is not None:
        sizes.append((near.three_body_rcut, near.three_body_rcut_smth, near.three_body_sel))
        parts.append(m.three_body.near)
    shared: Any = (s.smooth, s.env_protection, s.exclude_types, s.padding_leak, s.truncate)
    return [Block(part, *size, *shared) for part, size in zip(parts, sizes, strict=True)]


def descriptor(file: ModelFile, positions: Array, types: Array, cell: Array | None = None) -> tuple[Array, Array]:
    """Descriptor (n, dim) and rot_mat (n, g2_dim, 3) of one frame without virtual atoms."""
    m, every, f = file.model.descriptor, blocks(file), file.model.descriptor.repformer
    lists = widest_lists(file, positions, types, cell, max((b.rcut, b.nsel) for b in every))
    seen = [[slots(each, types, i, b) for i, each in enumerate(lists)] for b in every]
    table, near, b = type_table(m.type_embedding), seen[1], every[1]
    g1 = np.array([first(m, [of[i] for of in seen], t, every, table) for i, t in enumerate(types)])
    pairs = [start(f, s) for s in near]
    for each in f.layers:
        new = [refine(each, g1[i], *pairs[i], g1[s.atom], s, b, f.sqrt_counts) for i, s in enumerate(near)]
        g1, pairs = np.array([x for x, _, _ in new]), [(g2, h2) for _, g2, h2 in new]
    rot_mat = [moment(*pair, s, b, f.sqrt_counts).T for pair, s in zip(pairs, near, strict=True)]
    return np.concatenate([g1, table[types]], axis=1) if m.concat_types else g1, np.array(rot_mat)


def first(m: Any, seen: list[Slots], t_i: int, every: list[Block], table: Array) -> Array:
    """g1 of a center before the layers."""
    parts = [repinit(m.repinit, seen[0], t_i, every[0], table)]
    if m.three_body is not None:
        parts.append(three_body(m.three_body, seen[2], every[2], table))
    g = np.concatenate(parts)
    g = g if m.shape_transform is None else layer(m.shape_transform, g)
    return phi(m.activation, g if m.type_transform is None else g + layer(m.type_transform, table[t_i]))


def start(m: Any, s: Slots) -> tuple[Array, Array]:
    """(g2, h2) of a center before the layers."""
    if not m.direct_distance:
        return layer(m.g2_embedding, s.em[:, :1]), s.em[:, 1:]
    return layer(m.g2_embedding, np.linalg.norm(s.vector, axis=1, keepdims=True) / m.cutoff), s.vector / m.cutoff


def widest_lists(
    file: ModelFile, positions: Array, types: Array, cell: Array | None, widest: tuple[float, int]
) -> list[list[tuple[float, int, Array]]]:
    """Truncated, and then without the pairs that the model excludes."""
    excluded = {pair for a, c in file.settings.pair_exclude_types for pair in ((a, c), (c, a))}
    lists = []
    for i in range(len(positions)):
        near = neighbors(positions, types, cell, i, widest[0])
        near = near[: widest[1]] if file.settings.descriptor.truncate else near
        lists.append([entry for entry in near if (types[i], types[entry[1]]) not in excluded])
    return lists
