"""The part of the Array API standard that dpmodel uses, on the arrays that HIPS autograd traces.

``autograd.numpy`` is NumPy with derivatives, under NumPy's older names; where it has no derivative, or a
slow one, there is a primitive of our own.
"""

import autograd.numpy as anp
import numpy as np
from autograd.core import defvjp_argnums
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

abs, exp, log, max, mean, sqrt, sum = anp.abs, anp.exp, anp.log, anp.max, anp.mean, anp.sqrt, anp.sum
broadcast_to, permute_dims, reshape, where = anp.broadcast_to, anp.transpose, anp.reshape, anp.where
eye, full, zeros, equal, not_equal = anp.eye, anp.full, anp.zeros, anp.equal, anp.not_equal
triu, floor = anp.triu, anp.floor
arange, argsort = anp.arange, np.argsort
bool, float16, float32, float64, int32, int64 = np.bool_, np.float16, np.float32, np.float64, np.int32, np.int64


def concat(arrays, /, *, axis=0):
    return anp.concatenate(arrays, axis=axis)


def matrix_transpose(x, /):
    return anp.swapaxes(x, -1, -2)


def astype(x, dtype, /, *, copy=True):
    return x if x.dtype == dtype and not copy else x.astype(dtype)


def clip(x, min=None, max=None):
    return anp.clip(x, -np.inf if min is None else min, np.inf if max is None else max)


def detach(x):
    return getval(x)


@primitive
def _derived(function, adjoint, *x):
    return function(*x)


def _derived_vjp(argnums, result, arguments, _):
    _, adjoint, *x = arguments

    def slopes(slope):
        every = adjoint(result, slope, *x)
        return tuple(every[i - 2] for i in argnums)

    return slopes


defvjp_argnums(_derived, _derived_vjp)


def with_adjoint(function, adjoint, *x):
    return _derived(function, adjoint, *x)


@primitive
def tanh(x, /):
    return np.tanh(x)


defvjp(tanh, lambda y, x: lambda g: g * (1.0 - y * y))  # autograd's own divides by cosh^2, which overflows


@primitive
def _take(x, indices):
    return np.take(x, indices, axis=0)


@primitive
def _add_rows(rows, indices, count):
    """(count, ...): the sum of the rows that go to each place; the adjoint of ``_take``."""
    order = np.argsort(indices, kind="stable")
    targets, starts = np.unique(indices[order], return_index=True)
    out = np.zeros((count, *rows.shape[1:]), rows.dtype)
    if len(targets):
        out[targets] = np.add.reduceat(rows[order], starts, axis=0)  # many times faster than np.add.at
    return out


defvjp(_take, lambda ans, x, indices: lambda g: _add_rows(g, indices, x.shape[0]), argnums=(0,))
defvjp(_add_rows, lambda ans, rows, indices, count: lambda g: _take(g, indices), argnums=(0,))


def take(x, indices, /, *, axis):
    assert axis == 0
    return _take(x, indices)
