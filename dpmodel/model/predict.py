"""Energy, forces, virial and Hessian, defined once (specification/model.md 4)."""

from typing import Any, NamedTuple

from dpmodel.backend import GradAndAux
from dpmodel.dpa2.descriptor import Description
from dpmodel.errors import InputError
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.heads import expect_energies
from dpmodel.model.model import Model
from dpmodel.ops.arrays import frame_sum, gather
from dpmodel.xp import Array, like, namespace, shape


class EnergyForces(NamedTuple):
    """Energies and their derivatives; atoms of all frames on one axis."""

    energy: Array  # (nf,) eV
    atom_energy: Array  # (N,) eV
    forces: Array  # (A, 3) eV/angstrom
    virial: Array  # (nf, 3, 3) eV
    atom_virial: Array  # (A, 3, 3) eV; an edge's share goes to the neighbor it ends on


def expect_float64(graph: Graph, positions: Array) -> None:
    """Raise InputError where positions or shifts are not float64: their differences would lose digits."""
    for name, value in (("positions", positions), ("graph.shift", graph.shift)):
        if value.dtype != namespace(value).float64:
            raise InputError(f"{name} should be float64, whatever the precision of the model, got {value.dtype}")


def edge_vectors(graph: Graph, positions: Array) -> Array:
    """From each center to its neighbors: positions (A, 3) to vectors (N, n, 3), angstrom."""
    n_centers = shape(graph.neighbors)[0]
    return gather(positions, graph.neighbors) - positions[:n_centers, None, :] + graph.shift


def atomic_output(model: Model, graph: Graph, positions: Array, execution: Execution | None = None) -> Array:
    """Output of each center without derivatives, (N, ...): eV for an energy model."""
    return model(graph, edge_vectors(graph, positions), execution)


def describe(model: Model, graph: Graph, positions: Array, execution: Execution | None = None) -> Description:
    """The descriptor alone."""
    return model.descriptor(graph, edge_vectors(graph, positions), execution)


def features(model: Model, graph: Graph, positions: Array, execution: Execution | None = None) -> Array:
    """The last hidden layer of the fitting net of each center, (N, n_hidden); dimensionless."""
    return model.fitting.features(describe(model, graph, positions, execution), graph)


def predict(
    model: Model, graph: Graph, positions: Array, grad_and_aux: GradAndAux, execution: Execution | None = None
) -> EnergyForces:
    """Everything an energy model says of a graph, from positions (A, 3) in angstrom.

    The forces are minus the slope of the energy with the positions.  The virial of an atom is minus its slope with a
    strain that stretches the edges ending on that atom: -dE/dstrain = -sum_e g_e (x) d_e, with no scatter to write.
    """
    expect_energies(model.fitting.kind)
    strain = namespace(positions).zeros((shape(positions)[0], 3, 3), **like(positions))

    def total(positions: Array, strain: Array) -> tuple[Array, Array]:
        vectors = edge_vectors(graph, positions)
        xp = namespace(vectors)
        vectors = vectors + xp.sum(gather(strain, graph.neighbors) * vectors[:, :, None, :], axis=-1)
        atom_energy = model(graph, vectors, execution)[:, 0]
        return xp.sum(atom_energy), atom_energy

    (slope, strain_slope), atom_energy = grad_and_aux(total, positions, strain)
    atom_virial, n_centers = -strain_slope, shape(atom_energy)[0]
    virial = frame_sum(atom_virial[:n_centers, ...], graph.members)
    ghosts = atom_virial[n_centers:, ...]  # which an engine hands over with one frame
    virial = virial + namespace(virial).sum(ghosts, axis=0)[None, :, :]
    return EnergyForces(
        energy=frame_energy(atom_energy, graph),
        atom_energy=atom_energy,
        forces=-slope,
        virial=virial,
        atom_virial=atom_virial,
    )


def frame_energy(atom_energy: Array, graph: Graph) -> Array:
    """(N,) to (nf,), eV."""
    return frame_sum(atom_energy[:, None], graph.members)[:, 0]


def hessian_product(
    model: Model,
    graph: Graph,
    positions: Array,
    direction: Array,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> Array:
    """The Hessian of the energy times ``direction`` (A, 3), eV/angstrom^2 per unit of ``direction``."""

    def energy(positions: Array) -> tuple[Array, Any]:
        return namespace(positions).sum(atomic_output(model, graph, positions, execution)), None

    def along(positions: Array) -> tuple[Array, Any]:
        (slope,), _ = grad_and_aux(energy, positions)
        return namespace(slope).sum(slope * direction), None

    return grad_and_aux(along, positions)[0][0]


def edge_gradient(
    model: Model,
    graph: Graph,
    positions: Array,
    weight: Array,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> Array:
    """Slope of the sum of ``weight`` (N,) times the atomic energies with every edge vector, (N, n, 3) eV/angstrom."""

    def total(vectors: Array) -> tuple[Array, Any]:
        atom_energy = model(graph, vectors, execution)[:, 0]
        return namespace(atom_energy).sum(atom_energy * weight), None

    return grad_and_aux(total, edge_vectors(graph, positions))[0][0]
