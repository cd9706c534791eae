"""The exact heat flux of a message-passing model (Langer, Frank and Knoop, J. Chem. Phys. 159, 174105, 2023).

Information travels through several cutoffs, so an atom's share of the virial does not say where its energy came from;
what is needed is the slope of every atomic energy with every periodic image,

    J = sum_i sum_(j,S) (r_i - r_j - S) (de_i/dr_(j,S) . v_j) = sum_i r_i de_i/dt - sum_i sum_(j,S) (r_j + S) (...).

The first term is a slope along the velocities.  The second is the slope, at mu = 0, of the total energy when every
image moves by v_j (mu . (r_j + S)).  That motion is not periodic, yet the images of an atom differ, to first order,
in nothing but when they are: an image's features are those of its atom, later by mu . S.
"""

from dataclasses import replace
from typing import Any

from dpmodel.backend import GradAndAux
from dpmodel.execution import Execution, one_by_one
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.model.predict import edge_vectors
from dpmodel.ops.arrays import frame_sum, gather
from dpmodel.xp import Array, cast, like, namespace, shape


def heat_flux(
    model: Model,
    graph: Graph,
    positions: Array,
    velocities: Array,
    owner: Array,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> Array:
    """The double sum above for every frame, (nf, 3) eV angstrom per unit of time of ``velocities`` (N, 3).

    Every image that is a neighbor is an atom of ``graph`` and of ``positions`` (A, 3), angstrom, after the centers;
    image ``a`` is one of atom ``owner[a]``, a row of what ``execution.exchange`` returns, an atom of another process
    perhaps; of ``velocities`` the rows of the centers count.
    """
    # layers are told apart by their turn: none may stand for the others
    execution, n = replace(execution or Execution(), repeat=one_by_one), shape(graph.neighbors)[0]

    def images(x: Array) -> Array:
        """(N, ...) of the centers to (A, ...) of all images."""
        return gather(execution.exchange(x, n), owner)

    xp = namespace(positions)
    speed, shift = images(velocities[:n, ...]), positions - images(positions[:n, ...])
    frame = xp.astype(images(xp.astype(graph.frame, positions.dtype)[:, None])[:, 0], graph.frame.dtype)

    def energies(x: Array, lag: Array | None = None, rates: tuple[Array, ...] = ()) -> tuple[Array, ...]:
        """Atomic energies, and the features of the centers before each layer; ``lag`` (A, 1): mu . S."""
        features: list[Array] = []

        def exchange(g1: Array, count: int) -> Array:
            del count
            features.append(g1)
            if lag is None:
                return images(g1)
            return images(g1) + cast(lag, g1.dtype) * images(rates[len(features) - 1])

        atom_energy = model(graph, edge_vectors(graph, x), replace(execution, exchange=exchange))
        return atom_energy, *features

    energy_rate, *rates = _rates(energies, positions, speed, grad_and_aux)

    def total(mu: Array) -> tuple[Array, Any]:
        each = gather(mu, frame)
        moved = positions + speed * xp.sum(each * positions, axis=-1, keepdims=True)
        return xp.sum(energies(moved, xp.sum(each * shift, axis=-1, keepdims=True), tuple(rates))[0]), None

    (second,), _ = grad_and_aux(total, xp.zeros((shape(graph.members)[0], 3), **like(positions)))
    return frame_sum(positions[:n, ...] * energy_rate, graph.members) - second


def _rates(function: Any, x: Array, speed: Array, grad_and_aux: GradAndAux) -> tuple[Array, ...]:
    """Slopes of the results of ``function(x)`` along ``speed``.

    Two reverse passes, which every library has: the slope of a weighted sum of the results is linear in the weights.
    """

    def along(*weights: Array) -> tuple[Array, Any]:
        def weighted(x: Array) -> tuple[Array, Any]:
            sums = [cast(namespace(w).sum(w * y), x.dtype) for w, y in zip(weights, function(x), strict=True)]
            return sum(sums[1:], sums[0]), None

        (slope,), _ = grad_and_aux(weighted, x)
        return namespace(slope).sum(slope * speed), None

    return grad_and_aux(along, *[namespace(y).zeros(shape(y), **like(y)) for y in function(x)])[0]
