"""The program of one process among several, with derivatives: between layers features travel to whoever has the atom
as a ghost.

Derivatives go back piece by piece the same way; beyond ``REMEMBERED`` atoms a piece is run again, not remembered.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from dpmodel.execution import REMEMBERED
from dpmodel_torch.torchscript.program import Program, leaf

Comm = dict[str, Tensor]
Group = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor]  # rows, neighbors, masks, vectors


def know_border_op() -> None:
    """Let TorchScript know deepmd-kit's exchange: its own where it is installed, else a name that nothing calls."""
    if hasattr(torch.ops.deepmd, "border_op"):
        return
    if find_spec("deepmd"):
        import_module("deepmd.pt")  # loads the library of its operators; it wants the name to be free
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


def leaves(values: list[Tensor]) -> list[Tensor]:
    return [leaf(x) for x in values]


def detached(values: list[Tensor]) -> list[Tensor]:
    return [x.detach() for x in values]


def nothing() -> list[Tensor]:
    return torch.jit.annotate(list[Tensor], [])


def if_kept(values: list[Tensor], keeps: bool) -> list[Tensor]:
    return values if keeps else nothing()


class DomainProgram(Program):
    """Energies of centers and their slopes by the edges."""

    def __init__(self, *pieces: Any) -> None:
        super().__init__(*pieces)
        self.remembered = REMEMBERED
        self.reversed_layers = nn.ModuleList(list(self.layers)[::-1])  # TorchScript walks forwards only

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
            near, mask, edges = self.cut(rows, counts, neighbors, vectors)
            v = leaf(edges)
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
