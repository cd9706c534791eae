"""dpmodel on PyTorch: an engine for ``dpmodel.load``, and ``Model``, an ``nn.Module`` for programs of one's own."""

import warnings
from importlib import import_module
from typing import Any

import torch

from dpmodel.execution import keep_freed_memory
from dpmodel.xp import register_namespace
from dpmodel_torch import namespace
from dpmodel_torch.engine import Engine, find_device, grad_and_aux
from dpmodel_torch.model import Model, Module, tensors
from dpmodel_torch.processes import processes

__all__ = ["Engine", "Model", "Module", "backend", "grad_and_aux", "tensors"]

for array_type in (torch.Tensor, torch.nn.Parameter):  # both by name: Dynamo then has no bases to walk
    register_namespace(array_type, namespace)

EXPORTERS = {"deepmd-kit": "torchscript.deepmd_kit", "metatomic": "torchscript.metatomic", "torch": "export"}


class TorchBackend:
    name = "torch"
    processes = staticmethod(processes)

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        """Eager unless asked to compile, which takes about a minute for every new set of sizes."""
        keep_freed_memory()
        return Engine(find_device(device), compiles=bool(compile))

    def exporter(self, form: str) -> Any:
        """The module that writes and reads exported files of ``form``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which some forms are
            return import_module(f"dpmodel_torch.{EXPORTERS[form]}")


backend = TorchBackend()
