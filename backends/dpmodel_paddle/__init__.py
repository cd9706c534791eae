"""dpmodel on Paddle: an engine for ``dpmodel.load``, and ``Model``, an ``nn.Layer`` for programs of one's own."""

from importlib import import_module
from typing import Any

from dpmodel.execution import keep_freed_memory
from dpmodel.xp import register_namespace
from dpmodel_paddle import namespace
from dpmodel_paddle.arrays import tensors
from dpmodel_paddle.derivative import grad_and_aux
from dpmodel_paddle.engine import Engine, find_device
from dpmodel_paddle.model import Model, Module
from dpmodel_paddle.processes import processes
from dpmodel_paddle.quiet import paddle

__all__ = ["Engine", "Model", "Module", "backend", "grad_and_aux", "tensors"]

for array_type in (paddle.Tensor, paddle.pir.Value):  # a Value is what a tensor becomes while a program is traced
    register_namespace(array_type, namespace)


class PaddleBackend:
    name = "paddle"
    processes = staticmethod(processes)

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        """Eager unless asked to compile: static programs take seconds a shape, and are no faster on CPUs."""
        keep_freed_memory()
        return Engine(find_device(device), static=bool(compile))

    def exporter(self, form: str) -> Any:
        """The module that writes and reads exported files; Paddle has one form."""
        return import_module("dpmodel_paddle.export")


backend = PaddleBackend()
