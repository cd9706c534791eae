"""Paddle on one device, as ``dpmodel.backend.Engine`` wants it."""

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

import numpy as np

from dpmodel.backend import AdamRule, Transfer, linear_exchange
from dpmodel.errors import BackendError
from dpmodel.execution import REMEMBERED, Exchange, Execution
from dpmodel_paddle.arrays import to_numpy, to_tensor
from dpmodel_paddle.derivative import checkpoint, grad_and_aux
from dpmodel_paddle.optimizer import Optimizer
from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.static import Static

Array = Any
ALONE = RLock()  # threads that take derivatives at the same time crash Paddle


class Engine:
    """Paddle on ``device``, through static programs or not."""

    name = "paddle"
    grad_and_aux = staticmethod(grad_and_aux)
    checkpoint = staticmethod(checkpoint)

    def __init__(self, device: str, static: bool) -> None:
        self.device = device
        self.rounds_shapes = static

    def native(self, x: np.ndarray) -> Array:
        with ALONE:
            return to_tensor(x, self.device)

    def numpy(self, x: Array) -> np.ndarray:
        with ALONE:
            return to_numpy(x)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` under ``paddle.no_grad()``, as a static program if the engine makes them."""
        run = Static(function) if self.rounds_shapes else function

        def call(*args: Any) -> Any:
            with ALONE, paddle.no_grad():
                return run(*args)

        return call

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        if self.rounds_shapes:
            raise BackendError("a static program of Paddle cannot exchange with other processes: leave compile out")
        native = self.native

        return linear_exchange(lambda function, x, count: native(function(to_numpy(x), count)), forward, adjoint)

    def out_of_memory(self, error: Exception) -> bool:
        words = ("ResourceExhausted", "out of memory", "bad_alloc")
        return isinstance(error, MemoryError) or any(word.lower() in str(error).lower() for word in words)

    def run(self, slope: bool) -> Execution:
        if self.rounds_shapes:
            return Execution()
        if not slope:
            return Execution(group=24, most_bins=8)
        return Execution(group=48, most_bins=16, checkpoint=checkpoint, remember=REMEMBERED)

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> Optimizer:
        return Optimizer(parameters, rule)


def find_device(name: str | None) -> str:
    """The device called "cpu", "gpu", "gpu:1", ... ("cuda" means "gpu"); None: that of ``paddle.set_device``.

    Raises
    ------
    BackendError
        If it is not there.
    """
    if name is None:
        return paddle.get_device()
    there = {"cpu", *paddle.device.get_available_device(), *(paddle.device.get_available_custom_device() or ())}
    device = name.replace("cuda", "gpu")
    for candidate in (device, f"{device}:0"):
        if candidate in there:
            return candidate
    raise BackendError(f"paddle cannot use device {name!r}; there is {', '.join(sorted(there))}")
