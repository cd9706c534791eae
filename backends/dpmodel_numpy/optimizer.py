"""Adam as it was published: what the optimizers of the other libraries are checked against."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpmodel.backend import AdamRule

EPSILON = 1e-8


class Optimizer:
    """Adam or AdamW; every parameter counts its own steps."""

    def __init__(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> None:
        self._rule = rule
        self.parameters = dict(parameters)
        self._first = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._second = dict(self._first)
        self._steps = dict.fromkeys(parameters, 0)

    def step(self, gradients: Mapping[str, np.ndarray], learning_rate: float) -> None:
        beta1, beta2, decay, decoupled = self._rule
        for name, g in gradients.items():
            value = self.parameters[name]
            self._steps[name] += 1
            if decoupled:
                value = value * (1.0 - learning_rate * decay)
            else:
                g = g + decay * value
            first = self._first[name] = beta1 * self._first[name] + (1.0 - beta1) * g
            second = self._second[name] = beta2 * self._second[name] + (1.0 - beta2) * g * g
            unbiased = first / (1.0 - beta1 ** self._steps[name])
            size = np.sqrt(second / (1.0 - beta2 ** self._steps[name])) + EPSILON
            self.parameters[name] = value - learning_rate * unbiased / size

    def state(self) -> dict[str, np.ndarray]:
        parts: dict[str, Mapping[str, Any]] = {"first": self._first, "second": self._second, "step": self._steps}
        moments = {f"{name}:{what}": np.asarray(v[name]) for what, v in parts.items() for name in self.parameters}
        return {**self.parameters, **moments}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        for name in self.parameters:
            self.parameters[name] = state[name]
            self._first[name], self._second[name] = state[f"{name}:first"], state[f"{name}:second"]
            self._steps[name] = int(state[f"{name}:step"])
