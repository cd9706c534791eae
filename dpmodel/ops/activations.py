"""Activation functions by the names deepmd-kit gives them (specification/model.md 1.5)."""

from collections.abc import Callable
from functools import partial
from math import exp, pi, sqrt

from dpmodel.xp import Array, namespace


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), written so that it cannot overflow."""
    return 0.5 * (namespace(x).tanh(0.5 * x) + 1.0)


def tanh(x: Array) -> Array:
    return namespace(x).tanh(x)


def relu(x: Array) -> Array:
    return namespace(x).where(x > 0.0, x, 0.0)


def relu6(x: Array) -> Array:
    return namespace(x).where(x < 6.0, relu(x), 6.0)


def gelu(x: Array) -> Array:
    """The tanh form, which deepmd-kit means by both ``gelu`` and ``gelu_tf``."""
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * (x * x * x))))


def softplus(x: Array) -> Array:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|): the exponent is never positive."""
    xp = namespace(x)
    return relu(x) + xp.log(1.0 + xp.exp(xp.where(x > 0.0, -x, x)))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def silut(x: Array, threshold: float = 3.0) -> Array:
    """silu below ``threshold``, a tanh of the same value and slope above it."""
    s = 1.0 / (1.0 + exp(-threshold))
    slope = s + threshold * s * (1.0 - s)
    return namespace(x).where(x < threshold, silu(x), tanh(slope * (x - threshold)) + threshold * s)


def identity(x: Array) -> Array:
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": tanh,
    "relu": relu,
    "relu6": relu6,
    "gelu": gelu,
    "gelu_tf": gelu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "silu": silu,
    "silut": silut,
    "custom_silu": silut,
    "none": identity,
    "linear": identity,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The function called ``name`` (any case); ``silut:T`` sets the threshold.  KeyError if there is none."""
    base, _, threshold = name.lower().partition(":")
    function = ACTIVATIONS[base]
    if not threshold:
        return function
    if function is not silut:
        raise KeyError(name)
    return partial(silut, threshold=float(threshold))
