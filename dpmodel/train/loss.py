"""How far predictions are from the labels (specification/training.md 2), on any array library.

Every term is a sum over frames, atoms or components divided by how many there are in the whole batch.  The divisors
come with the labels, so that a batch may be spread over processes: losses and gradients then add up.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dpmodel.backend import GradAndAux
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.model.predict import EnergyForces, hessian_product, predict
from dpmodel.ops.arrays import frame_sum, gather
from dpmodel.train.settings import LossSettings
from dpmodel.xp import Array, like, namespace, shape


class Labels(NamedTuple):
    """What is known of the frames of a batch; None for what one of them lacks.  Atoms as in the graph.

    The first three are 0-d and count over all processes that share the batch.
    """

    n_frames: Array
    n_atoms: Array  # real ones
    n_pairs: Array  # ordered pairs of real atoms of the same frame
    energy: Array | None = None  # (nf,) eV
    force: Array | None = None  # (N, 3) eV/angstrom
    virial: Array | None = None  # (nf, 3, 3) eV
    atom_ener: Array | None = None  # (N,) eV
    atom_pref: Array | None = None  # (N,)
    atom_ener_coeff: Array | None = None  # (N,)
    drdq: Array | None = None  # (N, 3, g)
    hessian: Array | None = None  # (N, 3, m, 3) eV/angstrom^2; m as in ``graph.members``


class Batch(NamedTuple):
    """All that one step is given."""

    graph: Graph
    positions: Array  # (N, 3) angstrom
    labels: Labels


Prefactors = Mapping[str, Array]  # by term; 0-d
Reports = dict[str, Array]  # by term: mean square (or absolute) difference in reported units, 0-d


def prefactors(settings: LossSettings, learning_rate: float, start_lr: float) -> dict[str, float]:
    """The prefactor of each active term while the learning rate is ``learning_rate``; ``start_lr`` is its peak."""
    found = {}
    for term in settings.active:
        start, limit = settings.prefactors(term)
        found[term] = limit + (start - limit) * learning_rate / start_lr
    return found


def loss(
    model: Model,
    batch: Batch,
    weights: Prefactors,
    settings: LossSettings,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> tuple[Array, Reports]:
    """The loss, 0-d, and what each term that has labels contributes: see ``reported``.

    ``weights`` are the prefactors of the active terms.
    """
    (graph, positions, labels), execution = batch, execution or Execution()
    found = predict(model, graph, positions, grad_and_aux, execution)
    xp = namespace(found.energy)
    real = xp.astype(graph.types[: shape(found.atom_energy)[0]] < model.n_types, found.energy.dtype)
    given = _Given(settings, graph, labels, found, real, frame_sum(real[:, None], graph.members)[:, 0])
    total, reports = xp.sum(found.energy * 0.0), {}
    for term in settings.active:
        hessian = term == "h"
        result = _hessian(given, model, positions, grad_and_aux, execution) if hessian else TERMS[term](given)
        if result is not None:
            total = total + weights[term] * result[0]
            reports[term] = result[1]
    return total, reports


class _Given(NamedTuple):
    """What the terms have in common."""

    settings: LossSettings
    graph: Graph
    labels: Labels
    found: EnergyForces
    real: Array  # (N,) 1 for real atoms, 0 for virtual ones
    sizes: Array  # (nf,) real atoms


Term = tuple[Array, Array] | None  # contribution to the loss before its prefactor, and to the reported value


def _energy(given: _Given) -> Term:
    s, labels, sizes = given.settings, given.labels, given.sizes
    if labels.energy is None:
        return None
    energy = given.found.energy
    if s.enable_atom_ener_coeff and labels.atom_ener_coeff is not None:
        energy = frame_sum((given.found.atom_energy * labels.atom_ener_coeff)[:, None], given.graph.members)[:, 0]
    return _per_frame(given, energy - labels.energy, s.deltas[0], sizes, 1)


def _virial(given: _Given) -> Term:
    if given.labels.virial is None:
        return None
    difference = given.found.virial - given.labels.virial
    return _per_frame(given, difference, given.settings.deltas[2], given.sizes[:, None, None], 9)


def _per_frame(given: _Given, difference: Array, delta: float, sizes: Array, components: int) -> Term:
    """A term of energies (nf,) or virials (nf, 3, 3); components are averaged."""
    s, xp = given.settings, namespace(difference)
    count = given.labels.n_frames * components
    each = difference / sizes
    if s.loss_func == "mae":
        value = xp.sum(xp.abs(each)) / count
        return value, value
    report = xp.sum(each * each) / count
    if s.use_huber:
        return xp.sum(huber(each, delta)) / count, report
    return (report if s.intensive_ener_virial else xp.sum(difference * each) / count), report


def _force(given: _Given) -> Term:
    difference = _force_difference(given)
    if difference is None:
        return None
    s, xp, n_atoms = given.settings, namespace(difference), given.labels.n_atoms
    if s.loss_func == "mae":
        value = xp.sum(length(difference)) / n_atoms if s.f_use_norm else xp.sum(xp.abs(difference)) / (3.0 * n_atoms)
        return value, value
    report = xp.sum(difference * difference) / (3.0 * n_atoms)
    if not s.use_huber:
        return report, report
    if s.f_use_norm:
        return xp.sum(huber(length(difference), s.deltas[1])) / n_atoms, report
    return xp.sum(huber(difference, s.deltas[1])) / (3.0 * n_atoms), report


def _force_difference(given: _Given) -> Array | None:
    """(N, 3), zero for virtual atoms; relative if that is asked for."""
    label, s = given.labels.force, given.settings
    if label is None:
        return None
    difference = (given.found.forces - label) * given.real[:, None]
    return difference if s.relative_f is None else difference / (length(label) + s.relative_f)[:, None]


def _weighted_force(given: _Given) -> Term:
    difference, s, weight = _force_difference(given), given.settings, given.labels.atom_pref
    if difference is None or (weight is None and not s.use_default_pf):
        return None
    xp = namespace(difference)
    size = xp.abs(difference) if s.loss_func == "mae" else difference * difference
    value = xp.sum(size if weight is None else size * weight[:, None]) / (3.0 * given.labels.n_atoms)
    return value, value


def _generalized_force(given: _Given) -> Term:
    drdq, label = given.labels.drdq, given.labels.force
    if drdq is None or label is None:
        return None
    difference = (given.found.forces - label) * given.real[:, None]
    xp = namespace(difference)
    projected = frame_sum(xp.sum(drdq * difference[:, :, None], axis=1), given.graph.members)
    value = xp.sum(projected * projected) / (given.labels.n_frames * shape(drdq)[2])
    return value, value


def _atom_energy(given: _Given) -> Term:
    s, label = given.settings, given.labels.atom_ener
    if label is None:
        return None
    difference = (given.found.atom_energy - label) * given.real
    xp, n_atoms = namespace(difference), given.labels.n_atoms
    if s.loss_func == "mae":
        value = xp.sum(xp.abs(difference)) / n_atoms
        return value, value
    report = xp.sum(difference * difference) / n_atoms
    return (xp.sum(huber(difference, s.deltas[0])) / n_atoms if s.use_huber else report), report


def _hessian(given: _Given, model: Model, positions: Array, grad_and_aux: GradAndAux, execution: Execution) -> Term:
    """Three columns of the Hessian at a time, of one atom in every frame."""
    labels, graph, real = given.labels, given.graph, given.real
    if labels.hessian is None:
        return None
    xp = namespace(positions)
    rows, axes = xp.arange(shape(positions)[0], **like(graph.members)), xp.eye(3, **like(positions))

    def of_atom(atoms: Array, label: Array) -> tuple[Array]:
        """The sum for ``atoms`` (1, nf) and their ``label`` (1, N, 3, 3)."""
        moved = xp.astype(xp.equal(rows, gather(atoms[0, :], graph.frame)), positions.dtype) * real
        partner = frame_sum(moved[:, None], graph.members)[:, 0]  # (nf,) 1 where the atom of a frame is real
        mask, total = (real * gather(partner, graph.frame))[:, None], xp.zeros((1,), **like(positions))
        for k in range(3):
            direction = moved[:, None] * axes[k, :][None, :]
            column = hessian_product(model, graph, positions, direction, grad_and_aux, execution)
            difference = (column - label[0, :, :, k]) * mask
            size = xp.abs(difference) if given.settings.loss_func == "mae" else difference * difference
            total = total + xp.sum(size)
        return (total,)

    columns = xp.permute_dims(graph.members, (1, 0)), xp.permute_dims(labels.hessian, (2, 0, 1, 3))
    value = xp.sum(execution.loop(of_atom, columns, 1)[0]) / (9.0 * labels.n_pairs)
    return value, value


TERMS: dict[str, Callable[[_Given], Term]] = {
    "e": _energy,
    "f": _force,
    "v": _virial,
    "ae": _atom_energy,
    "pf": _weighted_force,
    "gf": _generalized_force,
}


def huber(x: Array, delta: float) -> Array:
    """x^2/2 up to ``delta``, straight beyond."""
    xp = namespace(x)
    size = xp.abs(x)
    return xp.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))


def length(v: Array) -> Array:
    """Length of vectors (..., 3), with slope 0 at 0."""
    xp = namespace(v)
    square = xp.sum(v * v, axis=-1)
    positive = square > 0.0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, 1.0)), 0.0)


def reported(settings: LossSettings, total: float, reports: Mapping[str, float]) -> dict[str, float]:
    """Columns of the learning curve: "rmse", and "rmse_e" or "mae_e" and so on; NaN for terms without labels."""
    columns = {"rmse": total**0.5}
    for term in settings.active:
        absolute = settings.loss_func == "mae" and term != "gf"
        value = float(reports.get(term, float("nan")))
        columns[f"{'mae' if absolute else 'rmse'}_{term}"] = value if absolute else value**0.5
    return columns
