"""The terms of a model in the order in which they are computed, and how far two sets of them are apart."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.padding import pad_graph, pad_rows
from dpmodel.dpa2 import options as dpa2
from dpmodel.dpa2.neighborhood import PAIRS, neighborhood
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.model.predict import atomic_output, edge_vectors, predict
from dpmodel.module import Rebuilder, state
from dpmodel.testing.cases import Case
from dpmodel.xp import Array, cast, map_arrays

Terms = dict[str, Array]  # centers of all frames first, or frames for energy and virial

DERIVED = ("energy", "atom_energy", "force", "virial", "atom_virial")
ROUNDINGS = 10.0  # a difference is no mistake while it is below this many times what rounding explains
FLOOR = 1e-3  # numbers smaller than this, in the unit of their term, are compared as if they were this large
MEANINGS = dpa2.MEANINGS | {
    "atomic": "output of each atom, with its bias (docs/specification/model.md 3, 5)",
    "atom_output": "output of each atom, zero where excluded (docs/specification/model.md 3)",
    "atom_energy": "energy of each atom, eV",
    "energy": "energy, eV",
    "force": "forces, eV/Å",
    "virial": "virial, eV",
    "atom_virial": "virial of each atom, eV",
}


def meaning(term: str) -> str:
    """The meaning of a term in words."""
    *block, name = term.split(".")
    if len(block) == 2:
        return f"{MEANINGS[name]} before {block[0]} layer {block[1]}"
    return MEANINGS.get(name, "") + (f" in {block[0]}" if block else "")


def forward(model: Model, graph: Graph, positions: Array, execution: Execution) -> Terms:
    """Every term without derivatives; works on any array library, and inside its compiler."""
    seen: Terms = {}

    def observe(name: str, value: Array) -> None:
        seen[name] = value

    d = model.descriptor
    table = d.type_embedding()
    vectors = cast(edge_vectors(graph, positions), table.dtype)
    geometry = {"type_embedding": table}
    for name, block in d.first_blocks.items():
        rows, switch, *_ = block.near.look(neighborhood(graph, vectors, graph.blocks[name]))
        geometry |= {f"{name}.switch": switch, f"{name}.rows": rows}
    seen["atom_output"] = atomic_output(model, graph, positions, replace(execution, observe=observe))
    ends = {name: seen.pop(name) for name in ("g2", "h2", "g1", "rot_mat", "descriptor", "atomic", "atom_output")}
    return {**geometry, "switch": seen.pop("switch"), **seen, **ends}


class OnEngine:
    """The core on a backend: ``OnEngine(engine)(case)`` yields its terms, first those without derivatives.

    ``exact``: in double precision, whatever the model says.
    """

    def __init__(self, engine: Engine, exact: bool = False) -> None:
        self.engine, self.exact = engine, exact

    def __call__(self, case: Case) -> Iterator[Terms]:
        graph, positions, engine = case.graph, case.positions, self.engine
        if engine.rounds_shapes:
            graph = pad_graph(case.graph, case.selection)
            positions = pad_rows(case.positions, case.graph, graph)
        model = case.model.model
        rebuild = Rebuilder(model)
        arrays = {path: value.astype(float) if self.exact else value for path, value in state(model).items()}
        inputs = map_arrays(engine.native, (arrays, graph, positions))
        names: list[str] = []

        def trace(arrays: dict[str, Array], graph: Graph, x: Array) -> tuple[Array, ...]:
            terms = forward(rebuild(arrays), graph, x, engine.run(slope=False))
            names[:] = terms
            return tuple(terms.values())

        values = engine.compile(trace)(*inputs)
        yield dict(zip(names, map(engine.numpy, values), strict=True))
        if case.settings.fitting_net.type == "ener":
            execution, grad = engine.run(slope=True), engine.grad_and_aux
            compiled = engine.compile(lambda arrays, graph, x: predict(rebuild(arrays), graph, x, grad, execution))
            yield dict(zip(DERIVED, map(engine.numpy, compiled(*inputs)), strict=True))


@dataclass(frozen=True)
class Difference:
    """The difference of a term from the reference."""

    term: str
    largest: float
    scale: float  # largest number of the reference
    tolerance: float  # relative to ``scale``
    where: str  # of the largest difference
    rounding: float = 0.0  # what rounding does to the reference itself

    @property
    def allowed(self) -> float:
        return max(self.tolerance * max(self.scale, FLOOR), ROUNDINGS * self.rounding)

    @property
    def relative(self) -> float:
        return self.largest / max(self.scale, FLOOR)

    @property
    def ok(self) -> bool:
        return self.largest <= self.allowed  # false for NaN


def differences(terms: Terms, reference: Terms, exact: Terms, case: Case, tolerance: float) -> list[Difference]:
    """Every term of ``reference`` that was ``terms``, in order; slots and atoms that mean nothing are left out.

    ``exact``: the reference again, in double precision; what rounding explains is judged from it.
    """
    compared = []
    for term, right in reference.items():
        if term in terms:
            rounding, _ = largest_gap(term, right, exact[term], case)
            scale, _ = largest_gap(term, right, np.zeros_like(right), case)
            gap, where = largest_gap(term, terms[term], right, case)
            compared.append(Difference(term, gap, scale, tolerance, where, rounding))
    return compared


def largest_gap(term: str, value: Array, right: Array, case: Case) -> tuple[float, str]:
    """The largest difference, and where it is."""
    value, right = np.asarray(value, dtype=float), np.asarray(right, dtype=float)
    # wider in atoms and slots where a backend rounds sizes up, or a list is as long as nsel
    if value.ndim != right.ndim or any(a < b for a, b in zip(value.shape, right.shape, strict=True)):
        return np.inf, f"shape {value.shape} instead of {right.shape}"
    gap = np.abs(value[tuple(slice(n) for n in right.shape)] - right)
    gap[~meaningful(term, right, case)] = 0.0
    if not gap.size:
        return 0.0, ""
    worst = np.unravel_index(int(np.argmax(gap)), gap.shape)
    return float(gap[worst]), in_words(term, worst, case)


def meaningful(term: str, reference: Array, case: Case) -> Array:
    """Bool, of the shape of ``reference``: not what empty slots hold, nor the description of virtual atoms."""
    matters = np.ones(reference.shape, dtype=bool)
    if term in ("type_embedding", "energy", "virial"):
        return matters
    graph, name = case.graph, term.split(".")[-1]
    if not term.startswith(("atom_", "force")):  # those are zero for virtual atoms
        matters[graph.types[: len(reference)] == case.settings.n_types] = False
    if name in ("rows", "switch", "g2", "h2"):
        first = term.split(".")[0]
        occupied = graph.blocks[first if first in graph.blocks else PAIRS]
        matters[:, occupied.shape[1] :] = False  # the slot that stands for all empty ones
        matters[:, : occupied.shape[1]][~occupied] = False
    return matters


def in_words(term: str, index: tuple[Any, ...], case: Case) -> str:
    """An index of a term in words."""
    if not index or term == "type_embedding":
        return f"type {index[0]}" if index else ""
    first, *rest = (int(i) for i in index)
    if term in ("energy", "virial"):
        return f"frame {first}" + (f", component {rest}" if rest else "")
    frame = int(case.graph.frame[first])
    where = f"atom {first - int(case.graph.members[frame, 0])} of frame {frame}"
    if term.split(".")[-1] in ("rows", "switch", "g2", "h2"):
        return f"{where}, neighbor {rest[0]}" + (f", component {rest[1:]}" if rest[1:] else "")
    return where + (f", component {rest}" if rest else "")
