"""The terms of all losses, a row each (specification/training.md 2, heads_training.md 1-3).

Settings, the labels that are read, checks, columns of the learning curve and the settings' page follow from the tables
at the end; shapes of labels are in ``dpmodel.data.labels``.

Every term is a sum over frames, atoms or components divided by how many there are in the whole batch.  The divisors
come with the labels, so that a batch may be spread over processes: losses and gradients then add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from dpmodel.execution import Loop
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.ops.arrays import frame_sum, gather
from dpmodel.xp import Array, like, namespace, shape

ENDLESS = 1e300  # counts of a process whose frames do not count: any sum divided by it is nothing


class Labels(NamedTuple):
    """The labels of the frames of a batch; a label that one of them lacks is not there.

    The first three are 0-d and count over all processes that share the batch.
    """

    n_frames: Array
    n_atoms: Array  # real ones
    n_pairs: Array  # ordered pairs of real atoms of the same frame
    values: dict[str, Array] = {}  # noqa: RUF012  by name: (nf, ...) of frames, (N, ...) of atoms as in the graph


class Comparison(NamedTuple):
    """The input of all terms: a batch, and the model's prediction for it."""

    settings: Any  # the section of the loss
    model: Model
    quantity: str  # that the head predicts
    graph: Graph
    labels: Labels
    frame: Array  # (nf, ...) predicted of frames; eV for energies
    atomic: Array  # (N, ...) predicted of atoms
    forces: Array | None  # (N, 3) eV/angstrom
    virial: Array | None  # (nf, 3, 3) eV
    real: Array  # (N,) 1 for atoms that count, 0 for others
    sizes: Array  # (nf,) atoms that count
    hessian_product: Callable[[Array], Array]
    loop: Loop

    def label(self, name: str) -> Array | None:
        """A label by its name."""
        return self.labels.values.get(name)


class Result(NamedTuple):
    """The contribution to the loss before its prefactor, and the errors that are shown.

    ``errors``: by measure, sums over the batch as well; of "rmse" the mean square, "mean" has a sign and no column.
    """

    value: Array
    errors: dict[str, Array]


@dataclass(frozen=True)
class Term:
    """A term of a loss.

    ``name``: end of the names of its prefactors, which start with ``start`` and end with ``limit`` by default;
    ``words`` for the documentation; ``labels`` that it needs, and ``optional`` ones; ``column``: its name in the
    learning curve; ``compare``: the result, None without the labels.  ``either``: it counts if one of its prefactors
    is not zero.  ``constant``: one prefactor for start and end, ``pref`` and the name, which has to be given.
    {quantity} and {kind} stand for what the head predicts and the type of the fitting net.
    """

    name: str
    words: str
    labels: tuple[str, ...]
    column: str
    compare: Callable[[Comparison], Result | None]
    start: float = 0.0
    limit: float = 0.0
    optional: tuple[str, ...] = ()
    either: bool = False
    constant: bool = False

    @property
    def keys(self) -> tuple[str, str]:
        """Names of the prefactors at the start and in the end."""
        if self.constant:
            return (f"pref{self.name}",) * 2
        return f"start_pref_{self.name}", f"limit_pref_{self.name}"


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


# Energy, forces, virial


def _mean(c: Comparison, difference: Array, weight: Array, count: Array) -> Result:
    """The weighted mean of squares or absolute values."""
    xp = namespace(difference)
    absolute = c.settings.loss_func == "mae"
    value = xp.sum((xp.abs(difference) if absolute else difference * difference) * weight) / count
    return Result(value, {"mae" if absolute else "rmse": value})


def _mean_or_huber(c: Comparison, difference: Array, count: Array, delta: float) -> Result:
    result = _mean(c, difference, 1.0, count)
    if not c.settings.use_huber:
        return result
    return result._replace(value=namespace(difference).sum(huber(difference, delta)) / count)


def _energy(c: Comparison) -> Result | None:
    label, coefficients, energy = c.label("energy"), c.label("atom_ener_coeff"), c.frame
    if label is None:
        return None
    if c.settings.enable_atom_ener_coeff and coefficients is not None:
        energy = frame_sum((c.atomic * coefficients)[:, None], c.graph.members)[:, 0]
    result = _per_frame(c, energy - label, c.settings.deltas[0], c.sizes, 1)
    mean = namespace(energy).sum((energy - label) / c.sizes) / c.labels.n_frames
    return result._replace(errors=result.errors | {"mean": mean})


def _virial(c: Comparison) -> Result | None:
    label = c.label("virial")
    if label is None:
        return None
    return _per_frame(c, c.virial - label, c.settings.deltas[2], c.sizes[:, None, None], 9)


def _per_frame(c: Comparison, difference: Array, delta: float, sizes: Array, components: int) -> Result:
    """Of energies (nf,) or virials (nf, 3, 3); components are averaged."""
    count, each, s = c.labels.n_frames * components, difference / sizes, c.settings
    result = _mean_or_huber(c, each, count, delta)
    if s.loss_func == "mae" or s.use_huber or s.intensive_ener_virial:
        return result
    return result._replace(value=namespace(difference).sum(difference * each) / count)


def _force_difference(c: Comparison) -> Array | None:
    """(N, 3), zero for virtual atoms; relative if that is asked for."""
    label, relative = c.label("force"), c.settings.relative_f
    if label is None:
        return None
    difference = (c.forces - label) * c.real[:, None]
    return difference if relative is None else difference / (length(label) + relative)[:, None]


def _force(c: Comparison) -> Result | None:
    difference, n_atoms, s = _force_difference(c), c.labels.n_atoms, c.settings
    if difference is None:
        return None
    result = _mean_or_huber(c, difference, 3.0 * n_atoms, s.deltas[1])
    if not s.f_use_norm:
        return result
    by_length = _mean_or_huber(c, length(difference), n_atoms, s.deltas[1])
    return by_length if s.loss_func == "mae" else result._replace(value=by_length.value)


def _weighted_force(c: Comparison) -> Result | None:
    difference, weight = _force_difference(c), c.label("atom_pref")
    if difference is None or (weight is None and not c.settings.use_default_pf):
        return None
    return _mean(c, difference, 1.0 if weight is None else weight[:, None], 3.0 * c.labels.n_atoms)


def _generalized_force(c: Comparison) -> Result | None:
    drdq, label = c.label("drdq"), c.label("force")
    if drdq is None or label is None:
        return None
    difference = (c.forces - label) * c.real[:, None]
    xp = namespace(difference)
    projected = frame_sum(xp.sum(drdq * difference[:, :, None], axis=1), c.graph.members)
    value = xp.sum(projected * projected) / (c.labels.n_frames * shape(drdq)[2])
    return Result(value, {"rmse": value})


def _atom_energy(c: Comparison) -> Result | None:
    label = c.label("atom_ener")
    if label is None:
        return None
    return _mean_or_huber(c, (c.atomic - label) * c.real, c.labels.n_atoms, c.settings.deltas[0])


def _hessian(c: Comparison) -> Result | None:
    """Three columns of the Hessian at a time, of one atom in every frame."""
    hessian, graph, real = c.label("hessian"), c.graph, c.real
    if hessian is None:
        return None
    xp, one = namespace(real), c.labels.n_pairs * 0.0 + 1.0
    rows, axes = xp.arange(shape(real)[0], **like(graph.members)), xp.eye(3, **like(real))

    def of_atom(atoms: Array, label: Array) -> tuple[Array]:
        """The sum for ``atoms`` (1, nf) and their ``label`` (1, N, 3, 3)."""
        moved = xp.astype(xp.equal(rows, gather(atoms[0, :], graph.frame)), real.dtype) * real
        partner = frame_sum(moved[:, None], graph.members)[:, 0]  # (nf,) 1 where the atom of a frame is real
        mask, total = (real * gather(partner, graph.frame))[:, None], xp.zeros((1,), **like(real))
        for k in range(3):
            column = c.hessian_product(moved[:, None] * axes[k, :][None, :])
            total = total + _mean(c, (column - label[0, :, :, k]) * mask, 1.0, one).value
        return (total,)

    columns = xp.permute_dims(graph.members, (1, 0)), xp.permute_dims(hessian, (2, 0, 1, 3))
    value = xp.sum(c.loop(of_atom, columns, 1)[0]) / (9.0 * c.labels.n_pairs)
    return Result(value, {"mae" if c.settings.loss_func == "mae" else "rmse": value})


# Other heads


def _cumulative(x: Array) -> Array:
    """Sums of components (n, k) up to each of them."""
    xp = namespace(x)
    return x @ xp.triu(xp.full((shape(x)[-1],) * 2, 1.0, **like(x)))


def _frames(c: Comparison, *, cumulative: bool = False) -> Result | None:
    """Squares of a quantity of frames; what is shown is per atom."""
    label = c.label(c.quantity)
    if label is None:
        return None
    difference = _cumulative(c.frame - label) if cumulative else c.frame - label
    value = _mean_of_squares(difference, c.labels.n_frames)
    return Result(value, {"rmse": value * (c.labels.n_frames / c.labels.n_atoms) ** 2})


def _atoms(c: Comparison, *, cumulative: bool = False) -> Result | None:
    """Squares of a quantity of atoms."""
    label, weight, xp = c.label(f"atom_{c.quantity}"), c.label("atom_weight"), namespace(c.real)
    if label is None:
        return None
    counted = c.real if weight is None else c.real * weight
    difference = xp.reshape(c.atomic - label, (shape(c.real)[0], -1)) * counted[:, None]
    value = _mean_of_squares(_cumulative(difference) if cumulative else difference, c.labels.n_atoms)
    return Result(value, {"rmse": value})


def _mean_of_squares(difference: Array, count: Array) -> Array:
    """Over ``count`` rows of all processes."""
    xp, components = namespace(difference), 1
    for n in shape(difference)[1:]:
        components *= n
    return xp.sum(difference * difference) / (count * components)


def _property(c: Comparison) -> Result | None:
    """A property of frames, per atom unless it is intensive; the loss counts it in deviations of the data."""
    label, s, xp = c.label(c.quantity), c.settings, namespace(c.frame)
    if label is None:
        return None
    scale = c.sizes[:, None] * 0.0 + 1.0 if c.model.intensive else 1.0 / c.sizes[:, None]
    plain = (label - c.frame) * scale
    normal = plain / c.model.out_std[:1, :]
    count = c.labels.n_frames * shape(plain)[1]

    def total(measure: str, d: Array) -> Array:
        sizes = {
            "mae": lambda: xp.abs(d),
            "smooth_mae": lambda: huber(d, s.beta) / s.beta,
            "mape": lambda: xp.abs(plain / (label * scale + 1e-3)),
        }
        return xp.sum(sizes.get(measure, lambda: d * d)())

    value = total(s.loss_func, normal)
    # a mean, or a sum: frames that only fill up a process do not count
    mean = s.loss_func in ("rmse", "mape")
    value = value / count if mean else xp.where(c.labels.n_frames < ENDLESS, value, value * 0.0)
    return Result(value, {measure: total(measure, plain) / count for measure in s.metric})


TERMS: dict[str, tuple[Term, ...]] = {
    "ener": (
        Term("e", "energies", ("energy",), "{measure}_e", _energy, 0.02, 1.0, ("atom_ener_coeff",)),
        Term("f", "forces", ("force",), "{measure}_f", _force, 1000.0, 1.0),
        Term("v", "virials", ("virial",), "{measure}_v", _virial),
        Term("ae", "atomic energies", ("atom_ener",), "{measure}_ae", _atom_energy),
        Term("pf", "weighted forces (atom_pref)", ("force", "atom_pref"), "{measure}_pf", _weighted_force),
        Term("gf", "generalized forces (drdq)", ("force", "drdq"), "rmse_gf", _generalized_force),
        Term("h", "Hessians", ("hessian",), "{measure}_h", _hessian, either=True),
    ),
    "tensor": (
        Term("", "tensors of frames", ("{quantity}",), "rmse_global_{kind}", _frames, constant=True),
        Term(
            "_atomic",
            "tensors of atoms",
            ("atom_{quantity}",),
            "rmse_local_{kind}",
            _atoms,
            optional=("atom_weight",),
            constant=True,
        ),
    ),
    "dos": (
        Term("dos", "densities of states of frames", ("{quantity}",), "rmse_global_dos", _frames),
        Term("cdf", "sums of them", ("{quantity}",), "rmse_global_cdf", partial(_frames, cumulative=True)),
        Term("ados", "densities of states of atoms", ("atom_{quantity}",), "rmse_local_dos", _atoms, 1.0, 1.0),
        Term("acdf", "sums of them", ("atom_{quantity}",), "rmse_local_cdf", partial(_atoms, cumulative=True)),
    ),
    "property": (Term("property", "the property", ("{quantity}",), "{measure}", _property),),
}
"""By the type of the loss."""
