"""The arguments and results of programs of one structure: the same for every library that traces.

    positions (N, 3), types (N,), neighbors (N, n), shift (N, n, 3), a mask (N, n_b) for each block,
    then fparam (k,) and aparam (N, k) if the model takes any

float64, int64 and bool, as in ``dpmodel.graph.Graph``.  No axis is shorter than two, and the list of neighbors is
longer than that of any block; atoms that fill up are virtual, slots that do are empty.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpmodel.backend import GradAndAux
from dpmodel.data.graph import build_graph
from dpmodel.data.padding import Sizes, pad_graph, pad_rows
from dpmodel.data.structure import Structure
from dpmodel.execution import Execution
from dpmodel.graph import Graph, Selection
from dpmodel.model.model import Model
from dpmodel.model.predict import atomic_output, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array, namespace, shape

FIRST = ("positions", "types", "neighbors", "shift")
ENERGY = ("energy", "atom_energy", "forces", "virial", "atom_virial")
LEAST = 2  # of every axis: compilers take a size of one for a promise


def names_of(settings: ModelSettings) -> list[str]:
    """Names of the arguments of a program, in order."""
    fitting, chosen = settings.fitting_net, settings.selection
    parameters = [name for name in ("fparam", "aparam") if getattr(fitting, f"numb_{name}")]
    if fitting.use_aparam_as_mask and "aparam" in parameters:
        parameters.remove("aparam")
    return [*FIRST, *chosen.blocks, *parameters]


def axes_of(settings: ModelSettings) -> list[tuple[str | int, ...]]:
    """Sizes of the arguments: numbers, and names of those that may be anything."""
    fitting = settings.fitting_net
    parameters = {"fparam": (fitting.numb_fparam,), "aparam": ("atoms", fitting.numb_aparam)}
    first = {"positions": ("atoms", 3), "types": ("atoms",)}
    first |= {"neighbors": ("atoms", "neighbors"), "shift": ("atoms", "neighbors", 3)}
    masks = {name: ("atoms", name) for name in settings.selection.blocks}
    return [(first | masks | parameters)[name] for name in names_of(settings)]


def arguments_of(graph: Graph, positions: np.ndarray, settings: ModelSettings) -> list[np.ndarray]:
    """The arguments for one structure."""
    sizes = {f"blocks.{name}": max(LEAST, mask.shape[1]) for name, mask in graph.blocks.items()}
    sizes["neighbors"] = max(*sizes.values(), graph.neighbors.shape[1]) + 1
    sizes["centers"] = sizes["members"] = max(LEAST, len(positions))
    return padded_arguments(graph, positions, settings, sizes)


def padded_arguments(graph: Graph, positions: np.ndarray, settings: ModelSettings, sizes: Sizes) -> list[np.ndarray]:
    """The arguments for one structure in given sizes (``dpmodel.data.padding``)."""
    padded = pad_graph(graph, settings.selection, sizes | {"ghosts": 0})
    fparam = None if padded.fparam is None else padded.fparam[0]
    fields: dict[str, Any] = padded._asdict() | padded.blocks | {"fparam": fparam}
    fields["positions"] = pad_rows(positions, graph, padded)
    return [fields[name] for name in names_of(settings)]


def example(settings: ModelSettings) -> list[np.ndarray]:
    """Arguments of three atoms in a line, to trace with."""
    fitting = settings.fitting_net
    line = np.arange(9.0).reshape(3, 3) * 0.5
    structure = Structure(
        line,
        np.resize(np.arange(settings.n_types), 3),
        None,
        np.zeros(3, dtype=bool),
        np.zeros(fitting.numb_fparam) if fitting.numb_fparam else None,
        np.zeros((3, fitting.numb_aparam)) if fitting.numb_aparam else None,
    )
    graph = build_graph([structure], settings.selection)
    every = ["members", *(f"blocks.{name}" for name in graph.blocks), "neighbors"]
    sizes = {name: 3 + k for k, name in enumerate(every)}  # all different, or tracers would take them for the same
    return padded_arguments(graph, line, settings, sizes | {"centers": 3})


def graph_of(arguments: Sequence[Array], names: Sequence[str], selection: Selection) -> tuple[Graph, Array]:
    """The graph that arguments of any library describe, and its positions."""
    by_name = dict(zip(names, arguments, strict=True))
    types, fparam = by_name["types"], by_name.get("fparam")
    xp = namespace(types)
    zeros = types * 0
    first = types[:1] * xp.astype(types[:1] < selection.n_types, types.dtype)
    members = xp.arange(shape(types)[0], dtype=types.dtype, device=getattr(types, "device", None))[None, :]
    graph = Graph(
        types=types,
        neighbors=by_name["neighbors"],
        shift=by_name["shift"],
        blocks={name: by_name[name] for name in selection.blocks},
        first_type=zeros + first,
        frame=zeros,
        members=members,
        fparam=None if fparam is None else fparam[None, :],
        aparam=by_name.get("aparam"),
    )
    return graph, by_name["positions"]


def computed(
    model: Model,
    arguments: Sequence[Array],
    settings: ModelSettings,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> tuple[Array, ...]:
    """The results of a program: the values of ``ENERGY``, or the output of every atom alone."""
    graph, positions = graph_of(arguments, names_of(settings), settings.selection)
    if settings.fitting_net.type != "ener":
        return (atomic_output(model, graph, positions, execution),)
    p = predict(model, graph, positions, grad_and_aux, execution)
    return p.energy[0], p.atom_energy, p.forces, p.virial[0, ...], p.atom_virial


def results_of(values: Sequence[np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The results of a program for ``n`` atoms, as ``dpmodel.export.forms.Program`` wants it."""
    if len(values) == 1:
        return {"output": values[0][:n]}
    results = dict(zip(ENERGY, values, strict=True))
    return {name: value if name in ("energy", "virial") else value[:n] for name, value in results.items()}
