"""An estimate of the memory that forces take.

The numbers are counted that the derivative of an atom's description keeps; the counts were adjusted to measured peaks
of the medium model of deepmd-kit's examples, in both precisions.
"""

from typing import Any, NamedTuple

from dpmodel.dpa2.neighborhood import PAIRS
from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.graph import Graph


class Need(NamedTuple):
    """Bytes that forces take, estimated."""

    remembered: float  # if everything is remembered until the derivative is taken
    recomputed: float  # if bins of atoms are recomputed


def need(d: Any, graph: Graph, most_bins: int) -> Need | None:
    """The memory that the forces of ``graph`` take with the descriptor ``d``, if that is a DPA-2."""
    if not isinstance(d, DPA2Settings):
        return None
    n_atoms = max(1, len(graph.neighbors))
    counts = {name: mask.sum(axis=1).astype(float) for name, mask in graph.blocks.items()}
    n1, n2 = counts["repinit"].sum() / n_atoms, counts[PAIRS].sum() / n_atoms
    squared = (counts[PAIRS] ** 2).sum() / n_atoms
    first, r = d.repinit, d.repformer
    attention = 4.5 * squared * r.attn2_nhead if r.update_g2_has_attn or r.update_h2 else 0.0
    layer = attention + n2 * (12.0 * r.g2_dim + 4.0 * r.g1_dim)
    start = 4.0 * n1 * sum(first.neuron)
    if "three_body" in counts:
        start += 4.0 * (counts["three_body"] ** 2).sum() / n_atoms * sum(first.three_body_neuron)
    between = r.nlayers * (n2 * (r.g2_dim + 4.0) + 2.0 * r.g1_dim) + 20.0 * n1
    between += 2.0 * first.axis_neuron * first.neuron[-1] + 2000.0
    size = 8.0 if d.precision == "float64" else 4.0
    everything = n_atoms * (start + r.nlayers * layer)
    # one bin of one block at a time is there as a whole
    return Need(size * everything, size * (n_atoms * between + max(start, layer) * n_atoms / max(1, most_bins)))
