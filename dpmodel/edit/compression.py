"""Building tables from networks (specification/compression.md 2, 3, 6)."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, sqrt

import numpy as np

from dpmodel.dpa2.repinit import EnvironmentEmbedding
from dpmodel.edit.jets import DERIVATIVES, network_jet
from dpmodel.errors import DpmodelError
from dpmodel.io.deepmd import ModelFile
from dpmodel.module import convert
from dpmodel.nn import MLP, Table, TypeTable
from dpmodel.ops.geometry import switch


def compress(file: ModelFile, *, min_pair_distance: float, step: float = 0.01, extrapolate: float = 5.0) -> ModelFile:
    """``file`` with tables beside its embedding networks, which are used instead of them from now on.

    ``min_pair_distance`` (angstrom): the shortest distance that the fine part of a table has to cover; ``step``: the
    spacing of its knots, ten times as much from there to ``extrapolate`` times its end.  With attention in repinit
    only the types are tabulated.  Raises DpmodelError with everything that stands in the way.
    """
    reasons = list(obstacles(file, min_pair_distance, step, extrapolate))
    if reasons:
        raise DpmodelError("this model cannot be compressed: " + "; ".join(reasons))
    descriptor = file.model.descriptor
    repinit, three_body, types = descriptor.repinit, descriptor.three_body, descriptor.type_embedding()
    near = with_types(repinit.near, types, one_side=repinit.one_side)
    if not repinit.attention:
        lower, upper = radial_range(near, min_pair_distance)
        near = replace(near, table=table(near.embedding, lower, upper, step, extrapolate))
    if three_body is not None:
        pairs = with_types(three_body.near, types, one_side=False)
        reach = product_range(pairs, min_pair_distance)
        three_body = replace(
            three_body, near=replace(pairs, table=table(pairs.embedding, -reach, reach, step, extrapolate))
        )
    descriptor = replace(descriptor, repinit=replace(repinit, near=near), three_body=three_body)
    return replace(file, model=replace(file.model, descriptor=descriptor))


def obstacles(file: ModelFile, min_pair_distance: float, step: float, extrapolate: float) -> Iterator[str]:
    """What keeps a model from being compressed, each with its remedy."""
    s, near = file.settings.descriptor, file.model.descriptor.repinit.near
    repinit = s.repinit
    if repinit.tebd_input_mode != "strip":
        yield (
            f'repinit.tebd_input_mode is {repinit.tebd_input_mode!r}, tables need "strip": the type must be a separate '
            "factor (train such a model)"
        )
    if repinit.resnet_dt:
        yield "repinit.resnet_dt is true, tables need false (train such a model)"
    if near.table is not None or near.type_table is not None:
        yield "it is compressed already"
    if repinit.activation_function.lower() not in DERIVATIVES:
        known = ", ".join(DERIVATIVES)
        yield f"repinit.activation_function is {repinit.activation_function!r}, tables know {known}"
    pairs = {(i, j) for i in range(near.n_types) for j in range(near.n_types)}
    if not pairs - {p for a, b in s.exclude_types for p in ((a, b), (b, a))}:
        yield "exclude_types leaves no pair of types"
    if not min_pair_distance > 0:
        yield f"the shortest distance between atoms should be above zero, got {min_pair_distance}"
    if not 0 < step < 1 or not extrapolate >= 1:
        yield f"step should be between 0 and 1 and extrapolate at least 1, got {step} and {extrapolate}"


def with_types(near: EnvironmentEmbedding, types: np.ndarray, *, one_side: bool) -> EnvironmentEmbedding:
    """``near`` with its network of types evaluated on all of them."""
    rows = near.pair_table(types, one_side=one_side)
    return replace(near, type_table=TypeTable(rows=rows, n_rows=rows.shape[0], width=rows.shape[1]))


def radial_range(near: EnvironmentEmbedding, distance: float) -> tuple[int, int]:
    """Whole numbers around every normalized entry of an environment row at ``distance`` or beyond (section 2)."""
    s = float(switch(np.asarray(distance), near.smooth_cutoff, near.cutoff))
    lowest = np.floor(-near.mean / near.stddev)
    highest = np.ceil((s / distance - near.mean) / near.stddev)
    return int(lowest.min()), int(highest.max())


def product_range(near: EnvironmentEmbedding, distance: float) -> int:
    """A whole number above every product of two angular rows at ``distance`` or beyond."""
    s = float(switch(np.asarray(distance), near.smooth_cutoff, near.cutoff))
    longest = s / distance / near.stddev[:, 1:].min() + np.abs(near.mean[:, 1:] / near.stddev[:, 1:]).max() * sqrt(3.0)
    return ceil(float(longest) ** 2)


def table(net: MLP, lower: int, upper: int, step: float, extrapolate: float) -> Table:
    """The quintic Hermite interpolant of ``net`` from its values and derivatives at the knots (section 3)."""
    coarse, top = 10.0 * step, upper * extrapolate
    knots = np.concatenate([np.arange(lower, upper, step), np.arange(upper, top, coarse), [top]])
    n_rows = int((upper - lower) / step + (top - upper) / coarse)
    dtype = net.layers[0].weight.dtype
    value, slope, bend = network_jet(convert(net, lambda w: w.astype(np.float64)), knots)
    h = np.where(np.arange(n_rows) < int((upper - lower) / step), step, coarse)[:, None]
    v, w = value[:n_rows], value[1 : n_rows + 1]
    d, e = slope[:n_rows], slope[1 : n_rows + 1]
    q, r = bend[:n_rows], bend[1 : n_rows + 1]
    delta = w - v
    a3 = (20 * delta - (8 * e + 12 * d) * h - (3 * q - r) * h**2) / (2 * h**3)
    a4 = (-30 * delta + (14 * e + 16 * d) * h + (3 * q - 2 * r) * h**2) / (2 * h**4)
    a5 = (12 * delta - 6 * (e + d) * h + (r - q) * h**2) / (2 * h**5)
    coefficients = np.stack([v, d, q / 2, a3, a4, a5], axis=1).astype(dtype)
    return Table(
        coefficients=coefficients,
        n_rows=n_rows,
        width=value.shape[1],
        lower=float(lower),
        upper=float(upper),
        top=float(top),
        fine=step,
        coarse=coarse,
    )
