"""A small program in TorchScript, which runs the traced pieces of an energy model on groups of atoms.

Every piece treats a center by itself, so groups of centers, each as wide as its own widest neighborhood, follow one
another.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.neighbors import DIRECTION, ROUNDING
from dpmodel.data.structure import Structure
from dpmodel.dpa2 import pieces
from dpmodel.graph import Graph, Selection
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.model import Model
from dpmodel.model.predict import edge_vectors
from dpmodel_torch.model import Module, tensors
from dpmodel_torch.torchscript.pieces import End, Layer, Start, layers_of, traced

T = TypeVar("T", bound="Program")
GROUP = 48  # atoms, whose pair features fit the cache of a processor


def leaf(x: Tensor) -> Tensor:
    """``x`` as the start of a derivative."""
    return x.detach().requires_grad_(True)


class Program(nn.Module):
    """The pieces, and what centers each of their groups sees; what follows upon what is up to those who inherit."""

    no_features: Tensor  # (0, g1_dim)
    direction: Tensor  # (3,)
    excluded: Tensor  # (n_types + 1, n_types + 1) bool: pairs of types that do not see each other

    def __init__(self, model: Model, selection: Selection, example: Graph, vectors: Tensor) -> None:
        """``example``: any small graph of tensors, whose blocks do not use all of their slots."""
        super().__init__()
        blocks = pieces.in_order(selection.blocks)
        self.cutoffs = [float(block.cutoff) + ROUNDING for block in blocks]
        self.nsel = [int(block.nsel) for block in blocks]
        self.widest = int(selection.widest.nsel)
        self.cutoff = float(selection.cutoff) + ROUNDING
        self.far = float(selection.far[0])
        self.rounding = ROUNDING
        self.truncate = bool(selection.truncate)
        self.n_types = int(selection.n_types)
        self.group = GROUP
        self.excludes = len(selection.pair_exclude) > 0
        excluded = torch.zeros(self.n_types + 1, self.n_types + 1, dtype=torch.bool)
        for a, b in selection.pair_exclude:
            excluded[a, b] = excluded[b, a] = True
        self.register_buffer("excluded", excluded)
        self.register_buffer("direction", torch.tensor(DIRECTION))
        self._trace(Module(model), example, vectors)

    def _trace(self, model: Any, graph: Graph, vectors: Tensor) -> None:
        """Every piece, on what the one before it gave."""
        masks = pieces.in_order(graph.blocks)
        first = graph.first_type[:1]
        arguments = (graph.types, torch.cat([graph.types, graph.types]), first, graph.neighbors, masks, vectors)
        self.start = traced(Start(model), *arguments)
        with torch.no_grad():
            state = self.start(*arguments)
            self.register_buffer("no_features", state[0][:0])
            layers = []
            for layer in layers_of(model):
                width = state[1].shape[1]
                state = (state[0][graph.neighbors[:, :width]], *state)
                layers.append(traced(Layer(layer), *state))
                state = layers[-1](*state)
        self.layers = nn.ModuleList(layers)
        fitting = model.fitting
        fparam = torch.zeros(1, fitting.pure().n_fparam, dtype=torch.float64)
        aparam = torch.zeros(len(graph.types), fitting.pure().n_aparam, dtype=torch.float64)
        self.end = traced(End(model), graph.types, fparam, aparam, *state)

    @torch.jit.export
    def select(self, types: Tensor, neighbors: Tensor, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(neighbors, vectors, distances) of the slots that the model looks at, nearest first.

        From candidates (N, m) on the axis of ``types`` (A,), in any order, of which some are ``valid``; empty slots
        hold the center itself, beyond every cutoff.
        """
        n = neighbors.shape[0]
        far = self.far
        centers = types[:n]
        valid = valid & (centers < self.n_types)[:, None] & (types[neighbors] < self.n_types)
        r = torch.sqrt((vectors * vectors).sum(-1))
        r = torch.where(valid & (r <= self.cutoff), r, torch.full_like(r, float("inf")))
        order = self.nearest_first(r, vectors)
        r = torch.gather(r, 1, order)
        if self.truncate:
            r, order = r[:, : self.widest], order[:, : self.widest]
        neighbors = torch.gather(neighbors, 1, order)
        if self.excludes:
            out = self.excluded[centers[:, None], types[neighbors]]
            r, again = torch.sort(torch.where(out, torch.full_like(r, float("inf")), r), dim=-1, stable=True)
            neighbors, order = torch.gather(neighbors, 1, again), torch.gather(order, 1, again)
        occupied = r < far
        width = 1
        if n > 0:
            width = max(1, int(occupied.sum(-1).max().item()))
        if neighbors.shape[1] < width:
            own = torch.arange(n, device=r.device)[:, None]
            return (
                own,
                torch.tensor([far, 0.0, 0.0], dtype=r.dtype, device=r.device).expand(n, 1, 3),
                torch.full([n, 1], float("inf"), dtype=r.dtype, device=r.device),
            )
        occupied, r = occupied[:, :width], r[:, :width]
        neighbors, order = neighbors[:, :width], order[:, :width]
        own = torch.arange(n, device=r.device)[:, None].expand(-1, width)
        vectors = torch.gather(vectors, 1, order[:, :, None].expand(-1, -1, 3))
        empty = torch.tensor([far, 0.0, 0.0], dtype=r.dtype, device=r.device)
        return (
            torch.where(occupied, neighbors, own),
            torch.where(occupied[:, :, None], vectors, empty),
            r,
        )

    def nearest_first(self, r: Tensor, vectors: Tensor) -> Tensor:
        """The order (N, m) by distance; neighbors at the same distance along a fixed direction, as everywhere."""
        r, order = torch.sort(r.detach(), dim=-1, stable=True)
        tie = r[:, 1:] - r[:, :-1] < self.rounding
        if bool(tie.any()):
            level = torch.nn.functional.pad(torch.cumsum(tie.logical_not(), 1), [1, 0])
            along = torch.gather((vectors.detach() * self.direction).sum(-1), 1, order)
            again = torch.argsort(along, dim=-1, stable=True)
            again = torch.gather(again, 1, torch.argsort(torch.gather(level, 1, again), dim=-1, stable=True))
            order = torch.gather(order, 1, again)
        return order

    def counts(self, distances: Tensor) -> list[Tensor]:
        """(N,) neighbors of the centers in each block."""
        result: list[Tensor] = []
        for k, cutoff in enumerate(self.cutoffs):
            count = (distances <= cutoff).sum(-1)
            result.append(torch.clamp(count, max=self.nsel[k]) if self.truncate else count)
        return result

    def cut(
        self, rows: Tensor, counts: list[Tensor], neighbors: Tensor, vectors: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        """Neighbors, masks and edges of the centers ``rows``, as wide as they need."""
        masks: list[Tensor] = []
        widest = 1
        for count in counts:
            count = count[rows]
            width = 1 if count.shape[0] == 0 else max(1, int(count.max().item()))
            widest = max(widest, width)
            masks.append(torch.arange(width, device=count.device) < count[:, None])
        return neighbors[rows, :widest], (masks[0], masks[1], masks[2]), vectors[rows, :widest]


def program_of(file: ModelFile, kind: type[T]) -> T:
    """The program of a model of energies, traced on two atoms: no list of neighbors is full, unless it always is."""
    chosen = file.settings.selection
    line = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    structure = Structure(line, np.array([0, file.settings.n_types - 1]), None, np.zeros(3, dtype=bool))
    graph, positions = tensors((build_graph([structure], chosen), flat_positions([structure])))
    return kind(file.model, chosen, graph, edge_vectors(graph, positions))


@contextmanager
def quiet() -> Iterator[None]:
    """TorchScript warns, from torch 2.13 on, that it will not be there for ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    with quiet():
        return torch.jit.script(module.eval())


def versions(*others: str) -> dict[str, str]:
    """Of PyTorch, which writes TorchScript, and of ``others``."""
    return {"torch": torch.__version__, **{name: version(name) for name in others}}
