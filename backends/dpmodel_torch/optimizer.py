"""``torch.optim`` as ``dpmodel.backend.Optimizer`` wants it."""

from collections.abc import Mapping

import numpy as np
import torch

from dpmodel.backend import AdamRule
from dpmodel_torch.arrays import to_numpy, to_tensor

MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}


class Optimizer:
    """Adam or AdamW on ``device``."""

    def __init__(self, parameters: Mapping[str, np.ndarray], rule: AdamRule, device: torch.device) -> None:
        self.parameters = {name: to_tensor(value, device) for name, value in parameters.items()}
        kind = torch.optim.AdamW if rule.decoupled else torch.optim.Adam
        betas = (rule.beta1, rule.beta2)
        self._rule = kind(list(self.parameters.values()), lr=1.0, betas=betas, weight_decay=rule.weight_decay)

    def step(self, gradients: Mapping[str, torch.Tensor], learning_rate: float) -> None:
        for name, value in self.parameters.items():
            value.grad = gradients.get(name)
        self._rule.param_groups[0]["lr"] = learning_rate
        self._rule.step()

    def state(self) -> dict[str, np.ndarray]:
        result = {}
        for name, value in self.parameters.items():
            moments = self._rule.state.get(value, {})
            result[name] = to_numpy(value)
            result[f"{name}:step"] = np.array(int(moments.get("step", 0)))
            for ours, there in MOMENTS.items():
                result[f"{name}:{ours}"] = to_numpy(moments.get(there, torch.zeros_like(value)))
        return result

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        for name, value in self.parameters.items():
            value.copy_(to_tensor(state[name], value.device))
            step = int(state[f"{name}:step"])
            if step:
                moments = {there: to_tensor(state[f"{name}:{ours}"], value.device) for ours, there in MOMENTS.items()}
                self._rule.state[value] = {"step": torch.tensor(float(step)), **moments}
            else:
                self._rule.state.pop(value, None)
