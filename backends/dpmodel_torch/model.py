"""A model as an ``nn.Module``, for training, fine-tuning and building on it.

    model = dpmodel_torch.Model(potential.model)
    graph, positions = dpmodel_torch.tensors(potential.graph([atoms]))
    values = model(graph, positions)
    features = model.describe(graph, positions).descriptor
    trained = model.to_numpy()

All results can be differentiated; under ``torch.no_grad()`` they cost less.
"""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from dpmodel.dpa2.descriptor import Description
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model import predict
from dpmodel.model.predict import EnergyForces
from dpmodel.module import convert, is_module, is_part
from dpmodel_torch.arrays import to_numpy, to_tensor
from dpmodel_torch.engine import grad_and_aux


class Module(nn.Module):
    """Any module of dpmodel, its arrays held as parameters and buffers: keys of ``state_dict()`` are dpmodel's paths.

    Children are such modules again, so that each can be called by itself: ``model.descriptor(graph, vectors)``,
    ``Module(descriptor)(graph, vectors)``.
    """

    def __init__(self, m: Any) -> None:
        """From a module of NumPy arrays or tensors, such as ``potential.model``, which are copied."""
        super().__init__()
        self._class = type(m)
        self._settings: dict[str, Any] = {}
        self._held: list[str] = []
        for f in fields(m):
            value = getattr(m, f.name)
            if not is_part(f, value):
                self._settings[f.name] = value
                continue
            self._held.append(f.name)
            if "dims" in f.metadata:
                self._hold(f.name, pytree.tree_map(_copied, value), f.metadata["trainable"])
            else:
                self.add_module(f.name, Module(value) if is_module(value) else nn.ModuleList(map(Module, value)))

    def _hold(self, name: str, value: Any, trainable: bool) -> None:
        if isinstance(value, tuple):
            self.add_module(name, nn.ParameterList(value))
        elif trainable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def pure(self) -> Any:
        """The module of dpmodel on the tensors that are held now; derivatives flow through."""
        return self._class(**self._settings, **{name: _content(getattr(self, name)) for name in self._held})

    def to_numpy(self) -> Any:
        """The module of dpmodel on copies of the arrays, exactly as they are."""
        return convert(self.pure(), to_numpy)

    def forward(self, *args: Any) -> Any:
        """The output of the module of dpmodel."""
        return self.pure()(*args)


def _copied(x: Any) -> torch.Tensor:
    return x.detach().clone() if isinstance(x, torch.Tensor) else to_tensor(x)


def _content(held: Any) -> Any:
    if isinstance(held, Module):
        return held.pure()
    if isinstance(held, nn.ModuleList | nn.ParameterList):
        return tuple([_content(member) for member in held])
    return held  # a tensor, or what somebody put in the place of a child


class Model(Module):
    """A model; ``Model(build(settings))`` or ``Model(potential.model)``."""

    def forward(self, graph: Graph, positions: torch.Tensor, execution: Execution | None = None) -> EnergyForces:
        """Energies, forces and virials of a graph, from positions (A, 3) in angstrom.

        Raises
        ------
        InputError
            If this is no energy model (then: ``atomic_output``), or positions or shifts are not float64.
        """
        predict.expect_float64(graph, positions)
        return predict.predict(self.pure(), graph, positions, grad_and_aux, execution)

    def atomic_output(self, graph: Graph, positions: torch.Tensor, execution: Execution | None = None) -> torch.Tensor:
        """Output of each center, (N, ...), of a model of any kind; raises as ``forward``."""
        predict.expect_float64(graph, positions)
        return predict.atomic_output(self.pure(), graph, positions, execution)

    def describe(self, graph: Graph, positions: torch.Tensor, execution: Execution | None = None) -> Description:
        """The descriptor alone; raises as ``forward``."""
        predict.expect_float64(graph, positions)
        return predict.describe(self.pure(), graph, positions, execution)


def tensors(arrays: Any, device: torch.device | str | None = None) -> Any:
    """Nested tuples, lists and dicts of NumPy arrays, such as a graph, as tensors on ``device``."""
    return pytree.tree_map_only(np.ndarray, lambda x: to_tensor(x, device), arrays)
