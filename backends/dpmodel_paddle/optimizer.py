"""``paddle.optimizer`` as ``dpmodel.backend.Optimizer`` wants it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from dpmodel.backend import AdamRule
from dpmodel_paddle.quiet import paddle

MOMENTS = {"first": "moment1", "second": "moment2"}
Array = Any


class Optimizer:
    """Adam or AdamW; Paddle's own AdamW rounds the weight decay to float32, so that decay is done here."""

    def __init__(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> None:
        self._betas, self._steps = rule[:2], dict.fromkeys(parameters, 0)
        self._held = {name: _parameter(value) for name, value in parameters.items()}
        self._decay, coupled = (rule.weight_decay, 0.0) if rule.decoupled else (0.0, rule.weight_decay)
        held, betas = list(self._held.values()), {"beta1": rule.beta1, "beta2": rule.beta2}
        self._rule = paddle.optimizer.Adam(learning_rate=1.0, parameters=held, weight_decay=coupled, **betas)

    @property
    def parameters(self) -> dict[str, Array]:
        """Without Paddle's mark that they are to be differentiated: who differentiates says so."""
        return {name: value.detach() for name, value in self._held.items()}

    def step(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        if self._decay:
            for name in gradients:
                value = self._held[name]
                value.set_value(value.detach() * (1.0 - learning_rate * self._decay))
        with _double_precision():
            self._rule.set_lr(learning_rate)
            self._rule.apply_gradients([(self._held[name], g) for name, g in gradients.items()])
        for name in gradients:
            self._steps[name] += 1

    def state(self) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        moments = self._moments()
        for name, value in self._held.items():
            result |= {name: value.numpy(), f"{name}:step": np.array(self._steps[name])}
            for ours, there in MOMENTS.items():
                moment = moments.get((value.name, there))
                result[f"{name}:{ours}"] = np.zeros_like(result[name]) if moment is None else moment.numpy()
        return result

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self.step({name: paddle.zeros_like(value) for name, value in self._held.items()}, 0.0)  # makes the moments
        moments = self._moments()
        for name, value in self._held.items():
            self._steps[name] = int(state[f"{name}:step"])
            value.set_value(paddle.to_tensor(state[name]))
            for ours, there in MOMENTS.items():
                moments[value.name, there].set_value(paddle.to_tensor(state[f"{name}:{ours}"]))
            for k, beta in enumerate(self._betas):
                power = moments[value.name, f"beta{k + 1}_pow"]
                power.set_value(paddle.full(power.shape, _power(beta, self._steps[name] + 1), power.dtype))

    def _moments(self) -> dict[tuple[str, str], Array]:
        """Paddle's moments by name of parameter and quantity; its own keys join and number them."""
        moments = {}
        for key, value in self._rule.state_dict().items():
            for what in (*MOMENTS.values(), "beta1_pow", "beta2_pow"):
                name, separator, _ = key.partition(f"_{what}_")
                if separator:
                    moments[name, what] = value
        return moments


def _parameter(value: np.ndarray) -> Array:
    start = paddle.nn.initializer.Assign(value)
    return paddle.create_parameter(value.shape, str(value.dtype), default_initializer=start)


def _power(beta: float, n: int) -> float:
    """beta^n, multiplied up as Paddle does it."""
    return float(np.cumprod(np.full(n, beta))[-1])


@contextmanager
def _double_precision() -> Iterator[None]:
    """Paddle keeps its learning rate in the default precision."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
