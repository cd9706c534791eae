"""``optax`` as ``dpmodel.backend.Optimizer`` wants it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dpmodel.backend import AdamRule

Arrays = dict[str, jax.Array]


class Optimizer:
    """Adam or AdamW; every parameter counts its own steps.  ``native`` puts arrays on the device."""

    def __init__(
        self, parameters: Mapping[str, np.ndarray], rule: AdamRule, native: Callable[[np.ndarray], jax.Array]
    ) -> None:
        self._native = native
        self.parameters = {name: native(value) for name, value in parameters.items()}
        with jax.enable_x64(True):
            self._adam = {name: adam().init(value) for name, value in self.parameters.items()}
        self._move = jax.jit(lambda *x: move(rule, *x))

    def step(self, gradients: Mapping[str, jax.Array], learning_rate: float) -> None:
        old = {name: self.parameters[name] for name in gradients}
        moments = {name: self._adam[name] for name in gradients}
        with jax.enable_x64(True):
            new, moments = self._move(old, moments, dict(gradients), learning_rate)
        self.parameters |= new
        self._adam |= moments

    def state(self) -> dict[str, np.ndarray]:
        result: dict[str, Any] = {}
        for name, (count, first, second) in self._adam.items():
            result |= {name: self.parameters[name], f"{name}:step": count}
            result |= {f"{name}:first": first, f"{name}:second": second}
        return {name: np.array(value) for name, value in result.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        for name in self.parameters:
            count, first, second = (self._native(state[f"{name}:{what}"]) for what in ("step", "first", "second"))
            with jax.enable_x64(True):
                self._adam[name] = optax.ScaleByAdamState(jnp.asarray(count, jnp.int32), first, second)
            self.parameters[name] = self._native(state[name])


def move(rule: AdamRule, parameters: Arrays, moments: Any, gradients: Arrays, learning_rate: Any) -> tuple[Arrays, Any]:
    """New parameters, and what Adam keeps of their gradients."""
    decay = optax.add_decayed_weights(rule.weight_decay)
    new, left = {}, {}
    for name, value in parameters.items():
        update = gradients[name]
        if rule.weight_decay and not rule.decoupled:
            update = decay.update(update, optax.EmptyState(), value)[0]
        update, left[name] = adam(rule).update(update, moments[name])
        if rule.weight_decay and rule.decoupled:
            update = decay.update(update, optax.EmptyState(), value)[0]
        new[name] = (value - learning_rate * update).astype(value.dtype)
    return new, left


def adam(rule: AdamRule | None = None) -> optax.GradientTransformation:
    return optax.scale_by_adam(*rule[:2]) if rule else optax.scale_by_adam()
