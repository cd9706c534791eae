"""Atoms of like neighbor counts, so that none is treated in arrays much wider than its neighborhood."""

from itertools import pairwise

import numpy as np

from dpmodel.dpa2.neighborhood import PAIRS
from dpmodel.execution import Bin, Execution
from dpmodel.graph import Graph


def binned(execution: Execution, graph: Graph, step: int = 1) -> tuple[Bin, ...]:
    """Bins for ``graph`` of equal sizes, none smaller than a group of ``execution``; widths are multiples of ``step``.

    They are cut as ``dpmodel.dpa2.neighborhood.Parts`` cuts: by the counts of repformer neighbors, the fewest first.
    """
    n = len(graph.neighbors)
    number = min(execution.most_bins, n // execution.group if execution.group else 1)
    if number < 2 or PAIRS not in graph.blocks:
        return ()
    order = np.argsort(graph.blocks[PAIRS].sum(axis=1), kind="stable")
    cuts = [i * n // number for i in range(number + 1)]
    ends = {name: _ends(mask)[order] for name, mask in graph.blocks.items()}
    return tuple(
        Bin(b - a, tuple((name, _rounded(int(end[a:b].max()), step, graph.blocks[name])) for name, end in ends.items()))
        for a, b in pairwise(cuts)
    )


def _ends(mask: np.ndarray) -> np.ndarray:
    """(N,) one more than the last occupied slot of each center."""
    n, width = mask.shape
    return np.where(mask.any(axis=1), width - mask[:, ::-1].argmax(axis=1), 0) if width else np.zeros(n, int)


def _rounded(end: int, step: int, mask: np.ndarray) -> int:
    return min(-(-max(end, 1) // step) * step, mask.shape[1])
