"""dpmodel on Paddle: eager, or as static programs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dpmodel.errors import BackendError
from dpmodel.xp import register_namespace
from dpmodel_paddle import namespace
from dpmodel_paddle.derivative import checkpoint, grad_and_aux
from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.static import Static
from dpmodel_paddle.trees import leaves

for array_type in (paddle.Tensor, paddle.base.framework.EagerParamBase, paddle.pir.Value):
    register_namespace(array_type, namespace)

Array = Any


class Engine:
    """Paddle on one device; see ``dpmodel.backend.Engine``."""

    name = "paddle"

    def __init__(self, device: str, static: bool) -> None:
        self.device, self.rounds_shapes = device, static

    def native(self, x: np.ndarray) -> Array:
        return paddle.to_tensor(x, place=self.device)

    def numpy(self, x: Array) -> np.ndarray:
        return x.numpy()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        run = Static(function) if self.rounds_shapes else function

        def call(*args: Any) -> Any:
            with paddle.set_grad_enabled(not all(x.stop_gradient for x in leaves(args))):
                return run(*args)

        return call

    grad_and_aux = staticmethod(grad_and_aux)

    checkpoint = staticmethod(checkpoint)


class PaddleBackend:
    name = "paddle"

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        return Engine(device or "cpu", bool(compile))

backend = PaddleBackend()
