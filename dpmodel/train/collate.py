"""From labeled frames to the arrays of one step."""

from collections.abc import Sequence

import numpy as np

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.labels import LABELS, OTHER
from dpmodel.data.padding import pad_graph, pad_rows
from dpmodel.data.systems import Frame
from dpmodel.graph import Graph, Selection
from dpmodel.train.batches import COPIES
from dpmodel.train.loss import Batch
from dpmodel.train.terms import ENDLESS, Labels
from dpmodel.xp import Array


def collate(
    frames: Sequence[Frame],
    selection: Selection,
    *,
    part: slice = slice(None),
    rounded: bool = False,
    uncounted: Sequence[int] = (),
) -> Batch:
    """The batch of ``frames`` in NumPy arrays, of which this process has the part ``part``.

    A label counts if every frame has it, one with a default if any has.  ``rounded``: sizes rounded up, for engines
    that compile for each shape.  ``uncounted``: types whose atoms do not count.
    """
    every = [np.isin(frame.structure.types, (-1, *uncounted), invert=True).sum() for frame in frames]
    sizes = np.array(every, dtype=np.float64)
    counts = [np.array(float(x)) for x in (len(frames), sizes.sum(), (sizes * sizes).sum())]
    if not frames[part]:  # fewer frames than processes: one that is there already, divided by an endless number
        part, counts = slice(1), [np.array(ENDLESS)] * 3
    structures = [frame.structure for frame in frames[part]]
    graph, positions = build_graph(structures, selection), flat_positions(structures)
    if rounded:
        padded = pad_graph(graph, selection)
        graph, positions = padded, pad_rows(positions, graph, padded)
    labels = {}
    for name in sorted({name for frame in frames for name in frame.labels}):
        if name != COPIES and _is_labeled(name, frames):
            labels[name] = _joined(name, [_label(name, frame) for frame in frames[part]], graph, len(positions))
    return Batch(graph, positions, Labels(counts[0], counts[1], counts[2], labels))


def _is_labeled(name: str, frames: Sequence[Frame]) -> bool:
    enough = all if LABELS.get(name, OTHER).default is None else any
    return enough(name in frame.labels for frame in frames)


def _label(name: str, frame: Frame) -> Array:
    """A label of atoms has its default where the frame has none."""
    value = frame.labels.get(name)
    return np.full(len(frame.structure.types), LABELS[name].default) if value is None else value


def _joined(name: str, values: Sequence[Array], graph: Graph, n_atoms: int) -> Array:
    """A label of all frames: (nf, ...), or (N, ...) with the atoms of all frames on one axis, zeros for padding.

    Further axes of atoms are as wide as the largest frame.
    """
    first, *others = LABELS.get(name, OTHER).shape or ("",)
    if first != "n":
        return np.stack(values)
    width = graph.members.shape[1]
    ends = [[width - k if axis == "n" else 0 for axis, k in zip(others, v.shape[1:], strict=True)] for v in values]
    wide = [np.pad(v, [(0, 0), *((0, end) for end in more)]) for v, more in zip(values, ends, strict=True)]
    joined = np.concatenate(wide)
    return np.pad(joined, [(0, n_atoms - len(joined))] + [(0, 0)] * (joined.ndim - 1))
