"""The heads, one row each (specification/model.md 5).

``R`` is the rot_mat of the atom, (M, 3): it turns with the structure, and so does what is made from it.
Everything here is float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpmodel.errors import InputError
from dpmodel.ops.arrays import append_row, gather
from dpmodel.xp import Array, cast, like, namespace, shape

Shape = Callable[[Any, Array, Array, Array], Array]
Bias = Callable[[Any, Array, Array], Array]


@dataclass(frozen=True)
class Head:
    """``output``: name of the property; ``shape``: from network to atomic output; ``bias``: what the model adds."""

    output: str
    shape: Shape
    bias: Bias


def of_type(table: Array, types: Array) -> Array:
    """Rows of a table (n_types, k) for each atom in float64, zeros for virtual atoms."""
    return cast(gather(append_row(table, 0.0), types), "float64")


def plain(fitting: Any, y: Array, rot_mat: Array, types: Array) -> Array:
    return y


def vector(fitting: Any, c: Array, rot_mat: Array, types: Array) -> Array:
    """d = c R."""
    return (c[:, None, :] @ rot_mat)[:, 0, :]


def tensor(fitting: Any, y: Array, rot_mat: Array, types: Array) -> Array:
    """P = R^T A R with a diagonal or a symmetric A."""
    xp = namespace(y)
    n, m = shape(rot_mat)[:2]
    scale = of_type(fitting.scale, types)
    if fitting.fit_diag:
        right = (y * scale)[:, :, None] * rot_mat
    else:
        a = xp.reshape(y, (n, m, m))
        right = (a + xp.matrix_transpose(a)) * (0.5 * scale)[:, :, None] @ rot_mat
    p = xp.matrix_transpose(rot_mat) @ right
    if fitting.shift_diag:
        p = p + diagonal(of_type(fitting.constant[:, None], types) * scale)
    return p


def diagonal(value: Array) -> Array:
    """value (N, 1) times the unit matrix, (N, 3, 3)."""
    return value[:, :, None] * namespace(value).eye(3, **like(value))[None, :, :]


def add_bias(model: Any, y: Array, types: Array) -> Array:
    return y + of_type(model.out_bias, types)


def no_bias(model: Any, y: Array, types: Array) -> Array:
    return y


def trace_bias(model: Any, p: Array, types: Array) -> Array:
    """The mean of the bias' diagonal, scaled like the rest, on the diagonal."""
    if not model.fitting.shift_diag:
        return p
    b = of_type(model.out_bias, types)
    mean = (b[:, 0:1] + b[:, 4:5] + b[:, 8:9]) / 3.0
    return p + diagonal(mean * of_type(model.fitting.scale, types))


def rescale(model: Any, y: Array, types: Array) -> Array:
    """y * std + mean of the type, or of the first one for all if types are not told apart."""
    if not model.distinguish_types:
        return y * model.out_std[:1, :] + model.out_bias[:1, :]
    return y * of_type(model.out_std, types) + of_type(model.out_bias, types)


HEADS = {
    "ener": Head("energy", plain, add_bias),
    "dipole": Head("dipole", vector, no_bias),
    "polar": Head("polarizability", tensor, trace_bias),
    "dos": Head("dos", plain, add_bias),
    "property": Head("property", plain, rescale),
}


def expect_energies(kind: str) -> None:
    """Raise InputError unless models of this ``kind`` have energies."""
    if kind != "ener":
        raise InputError(
            f"a {kind} model has no forces, energies or virials: what it has is {HEADS[kind].output}, "
            "in the outputs of a prediction or as atomic_output"
        )
