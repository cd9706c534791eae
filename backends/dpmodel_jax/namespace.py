"""``jax.numpy`` is the Array API standard; here is what dpmodel wants beside it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dpmodel.xp import Adjoint

detach = jax.lax.stop_gradient


def with_adjoint(function: Callable[..., jax.Array], adjoint: Adjoint, *x: jax.Array) -> jax.Array:
    """``function(*x)`` with the derivative ``adjoint``."""
    derived = jax.custom_vjp(function)

    def remember(*x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        result = function(*x)
        return result, (result, *x)

    derived.defvjp(remember, lambda saved, slope: adjoint(saved[0], slope, *saved[1:]))
    return derived(*x)


def __getattr__(name: str) -> Any:
    return getattr(jnp, name)
