"""Energy, forces and virial, defined once (spec model.md 4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dpmodel.model.model import Model
from dpmodel.ops.arrays import frame_sum, gather
from dpmodel.run import Run
from dpmodel.types import Graph
from dpmodel.xp import Array, like, namespace, shape

# grad_and_aux(f, x, y) -> ((df/dx, df/dy), aux) for f(x, y) -> (scalar, aux): a backend's one contribution
GradAndAux = Callable[[Callable[[Array, Array], tuple[Array, Array]], Array, Array], tuple[tuple[Array, Array], Any]]


class Forces(NamedTuple):
    """Energies and their derivatives on one atom axis."""

    energy: Array  # (nf,) eV
    atom_energy: Array  # (N,) eV
    forces: Array  # (A, 3) eV/angstrom
    virial: Array  # (nf, 3, 3) eV
    atom_virial: Array  # (A, 3, 3) eV; an edge's share goes to the neighbour it ends on


def edge_vectors(graph: Graph, positions: Array) -> Array:
    """From each centre to its neighbours: positions (A, 3) to vectors (N, n, 3), angstrom."""
    n_centres = shape(graph.neighbors)[0]
    return gather(positions, graph.neighbors) - positions[:n_centres, None, :] + graph.shift


def predict(model: Model, graph: Graph, positions: Array, grad_and_aux: GradAndAux, run: Run | None = None) -> Forces:
    """Everything an energy model says of a graph, from positions (A, 3) in angstrom.

    The forces are the slope of the energy with the positions.  The virial of an atom is its slope with a strain
    that stretches the edges ending on that atom: -dE/dstrain = -sum_e g_e (x) d_e, with no scatter to write.
    """
    strain = namespace(positions).zeros((shape(positions)[0], 3, 3), **like(positions))

    def total(positions: Array, strain: Array) -> tuple[Array, Array]:
        xp = namespace(positions)
        vectors = edge_vectors(graph, positions)
        vectors = vectors + xp.sum(gather(strain, graph.neighbors) * vectors[:, :, None, :], axis=-1)
        atom_energy = model(graph, vectors, run)[:, 0]
        return xp.sum(atom_energy), atom_energy

    (slope, strain_slope), atom_energy = grad_and_aux(total, positions, strain)
    atom_virial = -strain_slope
    return Forces(
        energy=energies(atom_energy, graph),
        atom_energy=atom_energy,
        forces=-slope,
        virial=frame_sum(atom_virial[: shape(atom_energy)[0], ...], graph.members),
        atom_virial=atom_virial,
    )


def energies(atom_energy: Array, graph: Graph) -> Array:
    """(N,) to (nf,)."""
    return frame_sum(atom_energy[:, None], graph.members)[:, 0]
