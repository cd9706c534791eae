"""From labeled frames to the arrays of one step."""

from collections.abc import Callable, Sequence

import numpy as np

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.labels import LABELS
from dpmodel.data.padding import pad_graph, pad_rows
from dpmodel.data.systems import Frame
from dpmodel.graph import Selection
from dpmodel.train.loss import Batch, Labels
from dpmodel.xp import Array

PER_FRAME = ("energy", "virial")
PER_ATOM = ("force", "atom_ener", "atom_pref", "atom_ener_coeff", "drdq")


def collate(
    frames: Sequence[Frame], selection: Selection, *, mine: slice = slice(None), rounded: bool = False
) -> Batch:
    """The batch of ``frames`` in NumPy arrays, of which this process has the part ``mine``.

    A label counts if every frame has it, one with a default if any has.  ``rounded``: sizes rounded up, for engines
    that compile for each shape.
    """
    sizes = np.array([(frame.structure.types >= 0).sum() for frame in frames], dtype=np.float64)
    counts = [np.array(float(x)) for x in (len(frames), sizes.sum(), (sizes * sizes).sum())]
    if not frames[mine]:  # fewer frames than processes: one that is there already, divided by infinity
        mine, counts = slice(1), [np.array(np.inf)] * 3
    structures = [frame.structure for frame in frames[mine]]
    graph, positions = build_graph(structures, selection), flat_positions(structures)
    if rounded:
        padded = pad_graph(graph, selection)
        graph, positions = padded, pad_rows(positions, graph, padded)
    labels = {}
    for name in (*PER_FRAME, *PER_ATOM, "hessian"):
        if _known(name, frames):
            values = [_label(name, frame) for frame in frames[mine]]
            labels[name] = _JOIN.get(name, _on_atoms)(values, len(positions), graph.members.shape[1])
    return Batch(graph, positions, Labels(*counts, **labels))


def _known(name: str, frames: Sequence[Frame]) -> bool:
    enough = all if LABELS[name].default is None else any
    return enough(name in frame.labels for frame in frames)


def _label(name: str, frame: Frame) -> Array:
    """A label of atoms has its default where the frame has none."""
    found = frame.labels.get(name)
    return np.full(len(frame.structure.types), LABELS[name].default) if found is None else found


def _on_atoms(values: Sequence[Array], n_atoms: int, width: int) -> Array:
    """(N, ...): atoms of all frames on one axis, zeros for padding."""
    joined = np.concatenate(values)
    return np.pad(joined, [(0, n_atoms - len(joined))] + [(0, 0)] * (joined.ndim - 1))


def _on_frames(values: Sequence[Array], n_atoms: int, width: int) -> Array:
    return np.stack(values)


def _hessian(values: Sequence[Array], n_atoms: int, width: int) -> Array:
    """(N, 3, m, 3), zeros where a frame has fewer than m atoms."""
    wide = [np.pad(h, ((0, 0), (0, 0), (0, width - len(h)), (0, 0))) for h in values]
    return _on_atoms(wide, n_atoms, width)


_JOIN: dict[str, Callable[[Sequence[Array], int, int], Array]] = {
    **dict.fromkeys(PER_FRAME, _on_frames),
    "hessian": _hessian,
}
