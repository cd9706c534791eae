"""``jax.numpy`` is the Array API standard; here is what dpmodel wants beside it."""

from typing import Any

import jax
import jax.numpy as jnp

detach = jax.lax.stop_gradient


def __getattr__(name: str) -> Any:
    return getattr(jnp, name)
