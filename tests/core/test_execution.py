"""How a model is run changes no number: groups, checkpoints, observers, and atoms that live elsewhere."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpmodel.backend import Engine, backend
from dpmodel.data.padding import pad_graph
from dpmodel.dpa2.bins import binned, planned
from dpmodel.errors import BackendError, NeighborOverflowWarning
from dpmodel.evaluator import Evaluator
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.predict import atomic_output, describe, hessian_product, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.ops.arrays import gather
from random_models import examples, random_graph, random_model
from sample_settings import model
from strategies import dpmodel_settings

ENGINE = backend("numpy").engine()
MODELS = dpmodel_settings(heads=("ener",), precisions=("float64",))
SEEDS = st.integers(0, 99)


@pytest.mark.parametrize("group", [1, 3, 7, 8, 100])
@examples(4)
@given(MODELS, SEEDS)
def test_groups_of_any_size(group: int, settings: ModelSettings, seed: int) -> None:
    module, (graph, positions) = random_model(settings, seed).model, random_graph(settings, seed, n=7)
    whole, parts = (describe(module, graph, positions, Execution(group=size)) for size in (None, group))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-13 * np.abs(a).max())
    whole_forces, forces = (
        predict(module, graph, positions, ENGINE.grad_and_aux, Execution(group=g)) for g in (None, group)
    )
    size = np.abs(whole_forces.forces).max()
    np.testing.assert_allclose(forces.forces, whole_forces.forces, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("most", [2, 3, 7])
@examples(6)
@given(MODELS, SEEDS)
def test_bins_of_like_neighbor_counts(most: int, settings: ModelSettings, seed: int) -> None:
    """Every atom is described as in one wide array, wherever its bin is cut and whatever its widths."""
    module, (graph, positions) = random_model(settings, seed).model, random_graph(settings, seed, n=7)
    apart = Execution(group=1, most_bins=most)
    apart = replace(apart, bins=binned(apart, graph))
    assert sum(b.size for b in apart.bins) == 7
    seen: dict[str, dict[str, np.ndarray]] = {"whole": {}, "apart": {}}
    for name, execution in (("whole", Execution()), ("apart", apart)):
        describe(module, graph, positions, replace(execution, observe=seen[name].__setitem__))
    for term, a in seen["whole"].items():
        real = graph.blocks["repformer"][..., None] if term.split(".")[-1] in ("g2", "h2") else True
        np.testing.assert_allclose(
            np.where(real, seen["apart"][term], 0.0), np.where(real, a, 0.0), rtol=0, atol=1e-13 * np.abs(a).max()
        )
    whole, parts = (predict(module, graph, positions, ENGINE.grad_and_aux, e) for e in (None, apart))
    size = np.abs(whole.atom_virial).max()
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * max(size, np.abs(a).max()))


@pytest.mark.parametrize("remember", [0, 99])
def test_bins_on_every_backend(engine: Engine, remember: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled or not, with derivatives: as in one wide array."""
    settings = ModelSettings.read(model({"repinit.neuron": [3, 6], "repinit.axis_neuron": 2, "repformer.nlayers": 2}))
    file, (graph, positions) = random_model(settings), random_graph(settings, n=8)
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda slope: replace(run(slope), group=2, most_bins=3, remember=remember))
    evaluator = Evaluator(file, engine)
    assert len(binned(engine.run(slope=True), graph)) == 3
    found = evaluator.energy_forces(graph, positions)
    expected = predict(file.model, graph, positions, ENGINE.grad_and_aux)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(expected.atom_virial).max())
    np.testing.assert_allclose(evaluator.atomic_output(graph, positions)[:, 0], expected.atom_energy, rtol=1e-12)
    direction = np.linspace(-1.0, 1.0, positions.size).reshape(positions.shape)
    product = evaluator.hessian_product(graph, positions, direction)
    same = hessian_product(file.model, graph, positions, direction, ENGINE.grad_and_aux)
    np.testing.assert_allclose(product, same, rtol=0, atol=1e-11 * np.abs(same).max())


def test_bins_are_narrow_where_neighbors_are_few() -> None:
    occupied = np.arange(6) < np.array([4, 1, 6, 2, 5, 3])[:, None]
    atoms = np.zeros(6, int)
    graph = Graph(
        types=atoms,
        neighbors=np.zeros((6, 6), int),
        shift=np.zeros((6, 6, 3)),
        blocks={"repinit": occupied, "repformer": occupied[:, :3]},
        first_type=atoms,
        frame=atoms,
        members=np.arange(6)[None],
    )
    cut = binned(Execution(group=2, most_bins=9), graph)
    assert [dict(b.widths) for b in cut] == [{"repinit": i, "repformer": min(i, 3)} for i in (2, 6, 5)]
    assert binned(Execution(group=2), graph) == binned(Execution(most_bins=9), graph) == ()


@examples(4)
@given(MODELS, SEEDS)
def test_every_bin_passes_through_the_checkpoint(settings: ModelSettings, seed: int) -> None:
    module, (graph, positions) = random_model(settings, seed).model, random_graph(settings, seed, n=6)
    calls: list[int] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arrays: Any) -> Any:
            calls.append(len(arrays))
            return function(*arrays)

        return run

    bins = planned(Execution(group=2, most_bins=3, checkpoint=counted), graph)
    found = atomic_output(module, graph, positions, bins)
    np.testing.assert_allclose(found, atomic_output(module, graph, positions), rtol=1e-11)
    blocks = 2 if settings.descriptor.repinit.use_three_body else 1
    assert len(calls) == 3 * (blocks + 1 + settings.descriptor.repformer.nlayers)


@examples(6)
@given(MODELS, SEEDS)
def test_observers_see_intermediate_results(settings: ModelSettings, seed: int) -> None:
    module, (graph, positions) = random_model(settings, seed).model, random_graph(settings, seed, n=5)
    seen: dict[str, np.ndarray] = {}
    found = atomic_output(module, graph, positions, Execution(observe=seen.__setitem__))
    np.testing.assert_array_equal(found, atomic_output(module, graph, positions))
    s = settings.descriptor
    assert seen["repinit"].shape == (5, s.repinit.neuron[-1] * s.repinit.axis_neuron)
    assert ("three_body" in seen) == s.repinit.use_three_body
    for i in range(s.repformer.nlayers):
        assert seen[f"repformer.{i}.g1"].shape == (5, s.repformer.g1_dim)
    np.testing.assert_array_equal(seen["descriptor"], describe(module, graph, positions).descriptor)


@examples(15)
@given(MODELS, SEEDS, st.booleans())
def test_sizes_rounded_up(settings: ModelSettings, seed: int, crowded: bool) -> None:
    """Atoms and slots that a compiling backend adds change nothing, also where every slot of a model is taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        graph, positions = random_graph(settings, seed, n=5, nf=2, filling=2.0 if crowded else 0.4)
    module, padded = random_model(settings, seed).model, pad_graph(graph, settings.selection)
    assert len(padded.types) > len(positions)
    spread_positions = np.pad(positions, ((0, len(padded.types) - len(positions)), (0, 0)))
    found = predict(module, padded, spread_positions, ENGINE.grad_and_aux)
    expected = predict(module, graph, positions, ENGINE.grad_and_aux)
    size = max(np.abs(expected.atom_virial).max(), 1.0)
    for name in expected._fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(ours[: len(theirs)], theirs, rtol=0, atol=1e-11 * size)
        assert not ours[len(theirs) :].any()


# --- ghost atoms ---


def with_ghosts(settings: ModelSettings, graph: Graph, positions: np.ndarray) -> tuple[Graph, np.ndarray, np.ndarray]:
    """The graph as a simulation engine would give it, positions (A, 3), and the original of each atom (A,).

    Every image that is somebody's neighbor is an atom of its own beyond the local ones; no edge crosses a boundary.
    """
    spread_positions, owner = list(positions), list(range(len(positions)))
    neighbors, shift = graph.neighbors.copy(), graph.shift.copy()
    known: dict[tuple[int, ...], int] = {}
    for i, k in np.argwhere(np.any(shift != 0.0, axis=-1) & np.any(shift != settings.selection.far, axis=-1)):
        original = int(neighbors[i, k])
        image = (original, *np.round(1e6 * shift[i, k]).astype(int))
        if image not in known:
            known[image] = len(spread_positions)
            spread_positions.append(positions[original] + shift[i, k])
            owner.append(original)
        neighbors[i, k], shift[i, k] = known[image], 0.0
    ghosts = graph._replace(types=graph.types[np.array(owner)], neighbors=neighbors, shift=shift)
    return ghosts, np.array(spread_positions), np.array(owner)


def folded(values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Sum over the images of each atom."""
    total = np.zeros((n, *values.shape[1:]))
    np.add.at(total, owner, values)
    return total


@examples(15)
@given(MODELS, SEEDS)
def test_ghost_atoms(settings: ModelSettings, seed: int) -> None:
    """They have no neighbors and no energy of their own; their features come from their originals at every layer."""
    module, (graph, positions) = random_model(settings, seed).model, random_graph(settings, seed, n=4)
    ghosts, spread_positions, owner = with_ghosts(settings, graph, positions)
    assume(len(spread_positions) > len(positions))  # unless the only pair of types is excluded
    execution = Execution(exchange=lambda g1, _: gather(g1, owner))
    found = predict(module, ghosts, spread_positions, ENGINE.grad_and_aux, execution)
    expected = predict(module, graph, positions, ENGINE.grad_and_aux)
    size, energies = np.abs(expected.atom_virial).max(), np.abs(expected.atom_energy).max()
    np.testing.assert_allclose(found.atom_energy, expected.atom_energy, rtol=0, atol=1e-12 * energies)
    np.testing.assert_allclose(folded(found.forces, owner, 4), expected.forces, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(folded(found.atom_virial, owner, 4), expected.atom_virial, rtol=0, atol=1e-12 * size)


def test_virial_with_ghost_atoms() -> None:
    settings = ModelSettings.read(model({"repinit.nsel": 60, "repinit.neuron": [3, 6], "repinit.axis_neuron": 2}))
    module, (graph, positions) = random_model(settings).model, random_graph(settings, n=4)
    ghosts, spread_positions, owner = with_ghosts(settings, graph, positions)
    found = predict(
        module, ghosts, spread_positions, ENGINE.grad_and_aux, Execution(exchange=lambda g1, _: gather(g1, owner))
    )
    expected = predict(module, graph, positions, ENGINE.grad_and_aux)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-12)
    np.testing.assert_allclose(found.virial, expected.virial, rtol=1e-9)


@dataclass(frozen=True)
class Images:
    """A halo of one process: every ghost is an image of one of its own atoms."""

    owner: np.ndarray  # (ghosts,)

    def forward(self, rows: np.ndarray, count: int) -> np.ndarray:
        result = np.zeros((count, *rows.shape[1:]), rows.dtype)
        result[: len(rows)] = rows
        result[len(rows) : len(rows) + len(self.owner)] = rows[self.owner]
        return result

    def adjoint(self, rows: np.ndarray, count: int) -> np.ndarray:
        result = rows[:count].copy()
        np.add.at(result, self.owner, rows[count : count + len(self.owner)])
        return result


def test_ghost_atoms_on_every_backend(engine: Engine) -> None:
    """Features go to the ghosts through NumPy, in the middle of what a backend differentiates and perhaps compiles."""
    small = {"repinit.nsel": 60, "repinit.neuron": [3, 6], "repinit.axis_neuron": 2, "repformer.nlayers": 2}
    settings = ModelSettings.read(model(small))
    file = random_model(settings)
    graph, positions = random_graph(settings, n=4)
    ghosts, spread_positions, owner = with_ghosts(settings, graph, positions)
    found = Evaluator(file, engine).evaluate_domain(ghosts, spread_positions, halo=Images(owner[4:]))
    expected = predict(file.model, graph, positions, ENGINE.grad_and_aux)
    tolerance = {"rtol": 0, "atol": 1e-12 * np.abs(expected.atom_virial).max()}
    assert len(spread_positions) > len(positions)
    np.testing.assert_allclose(found.atom_energy, expected.atom_energy, **tolerance)
    np.testing.assert_allclose(folded(found.forces, owner, 4), expected.forces, **tolerance)
    np.testing.assert_allclose(folded(found.atom_virial, owner, 4), expected.atom_virial, **tolerance)
    np.testing.assert_allclose(found.virial, expected.virial, **tolerance)


def test_a_compiled_exchange_is_refused_where_it_cannot_be() -> None:
    images = Images(np.arange(2))
    for name in ("torch", "paddle"):
        with pytest.raises(BackendError, match="leave compile out"):
            backend(name).engine("cpu", compile=True).exchange(images.forward, images.adjoint)
