"""Atoms of like neighbor counts, so that none is treated in arrays much wider than its neighborhood."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from dpmodel.dpa2.neighborhood import PAIRS
from dpmodel.execution import Bin, Execution
from dpmodel.graph import Graph


def planned(execution: Execution, graph: Graph, least: tuple[Bin, ...] = ()) -> Execution:
    """``execution`` with bins for ``graph``, and without recomputation where there are few enough atoms.

    ``least``: bins of an earlier graph; where sizes are the same, widths do not shrink.
    """
    few = len(graph.neighbors) <= execution.remember
    bins = binned(execution, graph)
    if [b.size for b in bins] == [b.size for b in least]:
        bins = tuple(_wider(b, old, graph) for b, old in zip(bins, least, strict=True))
    plan = replace(execution, bins=bins)
    return replace(plan, checkpoint=Execution().checkpoint) if few else plan


def binned(execution: Execution, graph: Graph) -> tuple[Bin, ...]:
    """Bins for ``graph`` of equal sizes, as many as it has groups of ``execution``.

    They are cut as ``dpmodel.dpa2.neighborhood.Parts`` cuts: by the counts of repformer neighbors, the fewest first.
    """
    n = len(graph.neighbors)
    number = min(execution.most_bins, -(-n // execution.group) if execution.group else 1)
    if number < 2 or PAIRS not in graph.blocks:
        return ()
    order = np.argsort(graph.blocks[PAIRS].sum(axis=1), kind="stable")
    cuts = [i * n // number for i in range(number + 1)]
    widths = {name: mask.shape[1] for name, mask in graph.blocks.items()}
    ends = {name: _ends(mask)[order] for name, mask in graph.blocks.items()}
    return tuple(
        Bin(
            b - a,
            tuple((name, min(_up(int(end[a:b].max()), execution.step), widths[name])) for name, end in ends.items()),
        )
        for a, b in pairwise(cuts)
    )


def _up(width: int, step: int) -> int:
    return -(-max(width, 1) // step) * step


def _wider(new: Bin, old: Bin, graph: Graph) -> Bin:
    """Each block as wide as in the wider of both bins, as far as ``graph`` goes."""
    pairs = zip(new.widths, old.widths, strict=True)
    return Bin(new.size, tuple((name, min(max(a, b), graph.blocks[name].shape[1])) for (name, a), (_, b) in pairs))


def _ends(mask: np.ndarray) -> np.ndarray:
    """(N,) one more than the last occupied slot of each center."""
    n, width = mask.shape
    return np.where(mask.any(axis=1), width - mask[:, ::-1].argmax(axis=1), 0) if width else np.zeros(n, int)
