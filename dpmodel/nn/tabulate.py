"""A table from a network of one number, whose two derivatives are carried forward layer by layer.

See specification/compression.md 2, 3.
"""

from collections.abc import Callable
from math import pi, sqrt

import numpy as np

from dpmodel.module import convert
from dpmodel.nn import MLP, Linear, Table
from dpmodel.ops.activations import activation

Jet = tuple[np.ndarray, np.ndarray, np.ndarray]  # value, first and second derivative


def table(net: MLP, lower: int, upper: int, step: float, extrapolate: float) -> Table:
    """The quintic Hermite interpolant of ``net`` from its values and derivatives at the knots (section 3)."""
    coarse, top = 10.0 * step, upper * extrapolate
    knots = np.concatenate([np.arange(lower, upper, step), np.arange(upper, top, coarse), [top]])
    n_rows = int((upper - lower) / step + (top - upper) / coarse)
    dtype = net.layers[0].weight.dtype
    value, slope, bend = network_jet(convert(net, lambda w: w.astype(np.float64)), knots)
    h = np.where(np.arange(n_rows) < int((upper - lower) / step), step, coarse)[:, None]
    v, w = value[:n_rows], value[1 : n_rows + 1]
    d, e = slope[:n_rows], slope[1 : n_rows + 1]
    q, r = bend[:n_rows], bend[1 : n_rows + 1]
    delta = w - v
    a3 = (20 * delta - (8 * e + 12 * d) * h - (3 * q - r) * h**2) / (2 * h**3)
    a4 = (-30 * delta + (14 * e + 16 * d) * h + (3 * q - 2 * r) * h**2) / (2 * h**4)
    a5 = (12 * delta - 6 * (e + d) * h + (r - q) * h**2) / (2 * h**5)
    coefficients = np.stack([v, d, q / 2, a3, a4, a5], axis=1).astype(dtype)
    return Table(
        coefficients=coefficients,
        n_rows=n_rows,
        width=value.shape[1],
        lower=float(lower),
        upper=float(upper),
        top=float(top),
        fine=step,
        coarse=coarse,
    )


def network_jet(net: MLP, x: np.ndarray) -> Jet:
    """``net`` at ``x`` (k,): value, first and second derivative, each (k, width).

    Raises KeyError for an activation that tables do not know.
    """
    value = x[:, None]
    jet = (value, np.ones_like(value), np.zeros_like(value))
    for layer in net.layers:
        jet = layer_jet(layer, jet)
    return jet


def layer_jet(layer: Linear, jet: Jet) -> Jet:
    """The chain rule through ``y = φ(x W + b) * idt + shortcut``."""
    v, d, q = (part @ layer.weight for part in jet)
    v = v if layer.bias is None else v + layer.bias
    first, second = DERIVATIVES[layer.activation.lower()](v)
    y = (activation(layer.activation)(v), first * d, second * d * d + first * q)
    if layer.idt is not None:
        y = tuple(part * layer.idt for part in y)
    if not layer.has_shortcut:
        return y
    copies = layer.n_out // layer.n_in
    return tuple(part + np.tile(old, copies) for part, old in zip(y, jet, strict=True))


Pair = tuple[np.ndarray, np.ndarray]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


def _tanh(x: np.ndarray) -> Pair:
    t = np.tanh(x)
    return 1.0 - t * t, -2.0 * t * (1.0 - t * t)


def _logistic(x: np.ndarray) -> Pair:
    s = _sigmoid(x)
    return s * (1.0 - s), s * (1.0 - s) * (1.0 - 2.0 * s)


def _softplus(x: np.ndarray) -> Pair:
    return _sigmoid(x), _logistic(x)[0]


def _silu(x: np.ndarray) -> Pair:
    s, (d, q) = _sigmoid(x), _logistic(x)
    return s + x * d, 2.0 * d + x * q


def _gelu(x: np.ndarray) -> Pair:
    c = sqrt(2.0 / pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    inner, inner2 = c * (1.0 + 3.0 * 0.044715 * x * x), c * 6.0 * 0.044715 * x
    d = (1.0 - t * t) * inner
    q = (1.0 - t * t) * inner2 - 2.0 * t * d * inner
    return 0.5 * (1.0 + t) + 0.5 * x * d, d + 0.5 * x * q


def _between(low: float, high: float) -> Callable[[np.ndarray], Pair]:
    """Slope 1 strictly between ``low`` and ``high``, else 0; no curvature, not even at the kinks."""
    return lambda x: (((x > low) & (x < high)).astype(x.dtype), np.zeros_like(x))


_linear = _between(-np.inf, np.inf)
DERIVATIVES: dict[str, Callable[[np.ndarray], Pair]] = {
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "relu": _between(0.0, np.inf),
    "relu6": _between(0.0, 6.0),
    "softplus": _softplus,
    "sigmoid": _logistic,
    "silu": _silu,
    "linear": _linear,
    "none": _linear,
}
