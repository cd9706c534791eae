"""A small program in TorchScript, which runs the traced pieces of an energy model on groups of atoms.

Every piece treats a center by itself, so groups of centers, each as wide as its own widest neighborhood, follow one
another; between layers features travel to whoever has the atom as a ghost.  Derivatives go back piece by piece the same
way; beyond ``REMEMBERED`` atoms a piece is run again rather than remembered.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.neighbors import ROUNDING
from dpmodel.data.structure import Structure
from dpmodel.dpa2 import pieces
from dpmodel.execution import REMEMBERED
from dpmodel.graph import Graph, Selection
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.model import Model
from dpmodel.model.predict import edge_vectors
from dpmodel_torch.model import Module, tensors
from dpmodel_torch.torchscript.pieces import End, Layer, Start, layers_of, traced

GROUP = 48  # atoms, whose pair features fit the cache of a processor
Comm = dict[str, Tensor]
Group = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor]  # rows, neighbors, masks, vectors


def know_border_op() -> None:
    """Let TorchScript know deepmd-kit's exchange: its own where it is installed, else a name that nothing calls."""
    if hasattr(torch.ops.deepmd, "border_op"):
        return
    if find_spec("deepmd"):
        import_module(
            "deepmd.pt"
        )  # which loads the library of its operators, and would not like to find the name taken
    else:
        arguments = ", ".join(f"Tensor {name}" for name in "abcdefghi")
        torch.library.define("deepmd::border_op", f"({arguments}) -> Tensor[]")


def slope(outputs: list[Tensor], inputs: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
    """Of the inputs, from those of the outputs."""
    ends: list[Tensor] = []
    weights: list[Tensor | None] = []
    for k, x in enumerate(outputs):
        if x.requires_grad:
            ends.append(x)
            weights.append(slopes[k])
    gradients = torch.autograd.grad(ends, inputs, weights, allow_unused=True)
    result: list[Tensor] = []
    for i, x in enumerate(inputs):
        y = gradients[i]
        if y is None:
            result.append(torch.zeros_like(x))
        else:
            result.append(y)
    return result


def leaf(x: Tensor) -> Tensor:
    """``x`` as the start of a derivative."""
    return x.detach().requires_grad_(True)


def leaves(values: list[Tensor]) -> list[Tensor]:
    return [leaf(x) for x in values]


def detached(values: list[Tensor]) -> list[Tensor]:
    return [x.detach() for x in values]


def nothing() -> list[Tensor]:
    return torch.jit.annotate(list[Tensor], [])


def if_kept(values: list[Tensor], keeps: bool) -> list[Tensor]:
    return values if keeps else nothing()


class Program(nn.Module):
    """Energies of centers and their derivatives by the edges."""

    no_features: Tensor  # (0, g1_dim)
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
        self.truncate = bool(selection.truncate)
        self.n_types = int(selection.n_types)
        self.group = GROUP
        self.remembered = REMEMBERED
        self.excludes = len(selection.pair_exclude) > 0
        excluded = torch.zeros(self.n_types + 1, self.n_types + 1, dtype=torch.bool)
        for a, b in selection.pair_exclude:
            excluded[a, b] = excluded[b, a] = True
        self.register_buffer("excluded", excluded)
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
        self.reversed_layers = nn.ModuleList(layers[::-1])
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
        r, order = torch.sort(r, dim=-1, stable=True)
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

    def exchange(self, g1: Tensor, n_all: int, comm: Comm | None) -> Tensor:
        """Features of the centers (N, d) to those of all atoms (A, d)."""
        if comm is None:
            return g1
        n = g1.shape[0]
        rows = torch.cat([g1, torch.zeros([n_all - n, g1.shape[1]], dtype=g1.dtype, device=g1.device)])
        return torch.ops.deepmd.border_op(
            comm["send_list"],
            comm["send_proc"],
            comm["recv_proc"],
            comm["send_num"],
            comm["recv_num"],
            rows,
            comm["communicator"],
            torch.tensor(n, dtype=torch.int32),
            torch.tensor(n_all - n, dtype=torch.int32),
        )[0]

    def forward(
        self,
        types: Tensor,
        first_type: Tensor,
        neighbors: Tensor,
        vectors: Tensor,
        distances: Tensor,
        weight: Tensor,
        fparam: Tensor,
        aparam: Tensor,
        comm: Comm | None,
    ) -> tuple[Tensor, Tensor]:
        """Energies of the centers (N,), and the slope of their sum with ``weight`` (N,) with ``vectors`` (N, n, 3)."""
        keeps = neighbors.shape[0] <= self.remembered
        counts = self.counts(distances)
        order = torch.argsort(counts[2])
        inverse = torch.argsort(order)
        groups: list[Group] = []
        starts: list[list[Tensor]] = []
        states: list[list[Tensor]] = []
        for start in range(0, order.shape[0], self.group):  # a rank without atoms has no group
            rows = order[start : start + self.group]
            near, mask, v = self.cut(rows, counts, neighbors, vectors)
            out = list(self.start(types[rows], types, first_type, near, mask, v))
            groups.append((rows, near, mask, v))
            starts.append(if_kept(out, keeps))
            states.append(detached(out))
        inputs, outputs, shared = self.refine(groups, states, inverse, types.shape[0], comm, keeps)

        energies: list[Tensor] = []
        slopes: list[list[Tensor]] = []
        for k, state in enumerate(states):
            rows = groups[k][0]
            x = leaves(state)
            e = self.end(types[rows], fparam, aparam[rows], x[0], x[1], x[2], x[3], x[4], x[5], x[6])
            energies.append(e.detach())
            slopes.append(slope([e], x, [weight[rows]]))
        self.pull(groups, slopes, inputs, outputs, shared, comm is not None)

        result = torch.zeros_like(vectors)
        for k, group in enumerate(groups):
            rows, near, mask, v = group
            out = starts[k]
            if len(out) == 0:
                out = list(self.start(types[rows], types, first_type, near, mask, v))
            result[rows, : v.shape[1]] = slope(out, [v], slopes[k])[0]
        return torch.cat([weight[:0]] + energies)[inverse], result  # noqa: RUF005

    def refine(
        self,
        groups: list[Group],
        states: list[list[Tensor]],
        inverse: Tensor,
        n_all: int,
        comm: Comm | None,
        keeps: bool,
    ) -> tuple[list[list[list[Tensor]]], list[list[list[Tensor]]], list[tuple[Tensor, Tensor]]]:
        """Put ``states`` through the layers: inputs and outputs by layer and group, features at each exchange."""
        inputs: list[list[list[Tensor]]] = []
        outputs: list[list[list[Tensor]]] = []
        shared: list[tuple[Tensor, Tensor]] = []
        for layer in self.layers:
            g1 = leaf(torch.cat([self.no_features] + [state[0] for state in states])[inverse])
            everyone = self.exchange(g1, n_all, comm)
            shared.append((g1, everyone))
            taken: list[list[Tensor]] = []
            results: list[list[Tensor]] = []
            for k, state in enumerate(states):
                near = groups[k][1][:, : state[1].shape[1]]
                x = leaves([everyone[near]]) + leaves(state)
                out = list(layer(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]))
                taken.append(x)
                results.append(if_kept(out, keeps))
                states[k] = detached(out)
            inputs.append(taken)
            outputs.append(results)
        return inputs, outputs, shared

    def pull(
        self,
        groups: list[Group],
        slopes: list[list[Tensor]],
        inputs: list[list[list[Tensor]]],
        outputs: list[list[list[Tensor]]],
        shared: list[tuple[Tensor, Tensor]],
        exchanges: bool,
    ) -> None:
        """Take ``slopes`` back through the layers."""
        for layer in self.reversed_layers:
            taken, results = inputs.pop(), outputs.pop()
            g1, everyone = shared.pop()
            pulled = torch.zeros_like(everyone)
            for k, x in enumerate(taken):
                out = results[k]
                if len(out) == 0:
                    out = list(layer(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]))
                back = slope(out, x, slopes[k])
                near = groups[k][1][:, : x[2].shape[1]]
                pulled.index_add_(0, near.reshape(-1), back[0].reshape(-1, pulled.shape[1]))
                slopes[k] = back[1:]
                results[k] = nothing()
            if exchanges:
                pulled = slope([everyone], [g1], [pulled])[0]
            for k, back in enumerate(slopes):
                back[0] = back[0] + pulled[groups[k][0]]

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
        return neighbors[rows, :widest], (masks[0], masks[1], masks[2]), leaf(vectors[rows, :widest])


def program_of(file: ModelFile) -> Program:
    """The pieces of a model of energies, traced on two atoms: no list of neighbors is full, unless it always is."""
    chosen = file.settings.selection
    line = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    structure = Structure(line, np.array([0, file.settings.n_types - 1]), None, np.zeros(3, dtype=bool))
    graph, positions = tensors((build_graph([structure], chosen), flat_positions([structure])))
    return Program(file.model, chosen, graph, edge_vectors(graph, positions))


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    know_border_op()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module.eval())


def saved(program: torch.jit.ScriptModule, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(program, path)


def loaded(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    know_border_op()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(path, map_location=device)


def versions() -> dict[str, str]:
    """Of the libraries that write TorchScript."""
    return {"torch": torch.__version__}
