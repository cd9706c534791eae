"""The descriptor with tables beside its embedding networks (specification/compression.md 2, 3, 6)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import numpy as np

from dpmodel.dpa2.descriptor import DPA2
from dpmodel.dpa2.repinit import EnvironmentEmbedding, Repinit
from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.dpa2.three_body import ThreeBody
from dpmodel.nn import TypeTable
from dpmodel.nn.tabulate import DERIVATIVES, table
from dpmodel.ops.geometry import switch


def with_embeddings(descriptor: DPA2, change: Callable[[str, Repinit | ThreeBody], EnvironmentEmbedding]) -> DPA2:
    """``descriptor`` with other embeddings in the blocks before the repformer: ``change(name, block)``."""
    blocks: Any = {name: replace(block, near=change(name, block)) for name, block in descriptor.first_blocks.items()}
    return replace(descriptor, **blocks)


def tabulate(descriptor: DPA2, min_pair_distance: float, step: float, extrapolate: float) -> DPA2:
    """``descriptor`` with tables; with attention in repinit only the types are tabulated there."""
    types = descriptor.type_embedding()

    def tabulated(name: str, block: Repinit | ThreeBody) -> EnvironmentEmbedding:
        near = with_types(block, types)
        if isinstance(block, ThreeBody):
            upper = product_range(near, min_pair_distance)
            lower = -upper
        elif block.attention:
            return near
        else:
            lower, upper = radial_range(near, min_pair_distance)
        return replace(near, table=table(near.embedding, lower, upper, step, extrapolate))

    return with_embeddings(descriptor, tabulated)


def retabulated(descriptor: DPA2, source: DPA2) -> DPA2:
    """``descriptor`` with the tables that ``source`` has: that of distances as it is, that of types for its own."""
    types = descriptor.type_embedding()

    def tabulated(name: str, block: Repinit | ThreeBody) -> EnvironmentEmbedding:
        old = source.first_blocks[name].near
        return block.near if old.type_table is None else replace(with_types(block, types), table=old.table)

    return with_embeddings(descriptor, tabulated)


def obstacles(
    s: DPA2Settings, descriptor: DPA2, min_pair_distance: float, step: float, extrapolate: float
) -> Iterator[str]:
    """The reasons why a descriptor cannot be tabulated, each with its remedy."""
    repinit, near = s.repinit, descriptor.repinit.near
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
        supported = ", ".join(DERIVATIVES)
        yield f"repinit.activation_function is {repinit.activation_function!r}, tables know {supported}"
    pairs = {(i, j) for i in range(near.n_types) for j in range(near.n_types)}
    if not pairs - {p for a, b in s.exclude_types for p in ((a, b), (b, a))}:
        yield "exclude_types leaves no pair of types"
    if not min_pair_distance > 0:
        yield f"the shortest distance between atoms should be above zero, got {min_pair_distance}"
    if not 0 < step < 1 or not extrapolate >= 1:
        yield f"step should be between 0 and 1 and extrapolate at least 1, got {step} and {extrapolate}"


def with_types(block: Repinit | ThreeBody, types: np.ndarray) -> EnvironmentEmbedding:
    """The embedding of ``block`` with its network of types evaluated on all of them."""
    rows = block.near.pair_table(types, one_side=isinstance(block, Repinit) and block.one_side)
    return replace(block.near, type_table=TypeTable(rows=rows, n_rows=rows.shape[0], width=rows.shape[1]))


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
