"""What is particular to PyTorch: the model as an nn.Module, graphs that are kept and freed, torch.compile."""

import copy
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dpmodel_torch
from dpmodel.backend import backend
from dpmodel.dpa2.bins import planned
from dpmodel.errors import BackendError, InputError
from dpmodel.execution import Execution
from dpmodel.model.build import build
from dpmodel.model.predict import EnergyForces, edge_vectors, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from random_models import graph_of, random_frames, random_graph, random_model
from reference_cases import case

Given = tuple[dpmodel_torch.Model, Any, torch.Tensor]


def given(name: str = "all_updates", **frames: Any) -> Given:
    """A reference case: its model, graph and positions."""
    file = case(name).file
    inputs = graph_of(file.settings, **(frames or case(name).frames))
    return dpmodel_torch.Model(file.model), *dpmodel_torch.tensors(inputs)


def loss(p: EnergyForces) -> torch.Tensor:
    return (p.forces**2).sum() + p.energy.sum() + (p.virial**2).sum()


def gradients(
    model: torch.nn.Module, graph: Any, positions: torch.Tensor, *execution: Execution
) -> dict[str, torch.Tensor]:
    """Of ``loss`` by all parameters."""
    model.zero_grad()
    loss(model(graph, positions, *execution)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal, relative to the largest number of each."""
    with torch.no_grad():
        for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.abs().max()))


# --- arrays in and out ---


def test_state_dict_has_the_paths_and_the_roles_of_the_arrays() -> None:
    file = case("all_updates").file
    model = dpmodel_torch.Model(file.model)
    assert set(model.state_dict()) == set(state(file.model))
    trained = {path for path, _, about in arrays(file.model) if about["trainable"]}
    assert {name for name, _ in model.named_parameters()} == trained
    assert {name for name, _ in model.named_buffers()} == set(state(file.model)) - trained


@pytest.mark.parametrize("name", ["all_updates", "econf", "float32", "head_polar"])
def test_there_and_back_exactly(name: str) -> None:
    file = case(name).file
    found = dpmodel_torch.Model(file.model).to_numpy()
    assert type(found) is type(file.model)
    for path, value in state(file.model).items():
        returned = state(found)[path]
        assert returned.dtype == value.dtype, path
        np.testing.assert_array_equal(returned, value, err_msg=path)


def test_from_settings_and_a_state_dict() -> None:
    model, graph, positions = given()
    blank = dpmodel_torch.Model(build(case("all_updates").file.settings, seed=3))
    blank.load_state_dict(model.state_dict())
    same(blank(graph, positions), model(graph, positions), 0.0)


def test_memory_is_not_shared() -> None:
    file = case("baseline").file
    before = copy.deepcopy(state(file.model))
    model = dpmodel_torch.Model(file.model)
    returned = state(model.to_numpy())
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    for found in (state(file.model), returned):
        for path, value in found.items():
            np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "bool"])
def test_arrays_of_every_kind(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    engine = backend("torch").engine("cpu")
    x = np.array([[0.0, 1.0], [2.5, -3.0]]).astype(getattr(ml_dtypes, dtype, dtype))
    x.flags.writeable = False
    for view in (x, x[::-1].T, x[0, 1]):
        there = engine.native(view)
        assert str(there.dtype) == f"torch.{dtype}"
        back = engine.numpy(there)
        assert back.dtype == x.dtype
        np.testing.assert_array_equal(back, view)


# --- an nn.Module like any other ---


def test_training_lowers_the_loss() -> None:
    model, graph, positions = given("baseline")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(loss(model(graph, positions)))
        losses[-1].backward()
        optimizer.step()
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_copies_are_independent() -> None:
    model, graph, positions = given("baseline")
    before, twin = model(graph, positions), copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2.0)
    same(model(graph, positions), before, 0.0)


def test_another_precision() -> None:
    """Parameters and networks follow ``to``; positions and energies stay float64."""
    model, graph, positions = given()
    expected = model(graph, positions)
    found = model.to(torch.float32)(graph, positions)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert {value.dtype for value in found} == {torch.float64}
    same(found, expected, 2e-5)
    assert model.describe(graph, positions).descriptor.dtype == torch.float32


def test_functional_transformations() -> None:
    model, graph, positions = given()
    expected = gradients(model, graph, positions)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def of(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss(torch.func.functional_call(model, parameters, (graph, positions)))

    same(torch.func.grad(of)(parameters), expected)


class Head(torch.nn.Module):
    """Somebody's own model on top of our descriptor."""

    def __init__(self, descriptor: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.last = torch.nn.Linear(width, 2, dtype=torch.float64)

    def forward(self, graph: Any, positions: torch.Tensor) -> torch.Tensor:
        return self.last(self.descriptor(graph, edge_vectors(graph, positions)).descriptor).sum(dim=0)


def test_the_descriptor_alone_in_another_model() -> None:
    model, graph, positions = given("baseline")
    expected = model.describe(graph, positions).descriptor
    own = Head(dpmodel_torch.Module(case("baseline").file.model.descriptor), expected.shape[1])
    same(own.descriptor(graph, edge_vectors(graph, positions)).descriptor, expected, 0.0)
    same(model.descriptor(graph, edge_vectors(graph, positions)).descriptor, expected, 0.0)  # type: ignore[operator]
    own(graph, positions).sum().backward()
    assert all(p.grad is not None for p in own.parameters())
    double = Head(own.descriptor, expected.shape[1])
    assert torch.autograd.gradcheck(lambda x: double(graph, x), (positions.requires_grad_(),), fast_mode=True)


def test_a_child_may_be_replaced() -> None:
    model, graph, positions = given("baseline")

    class Zero(torch.nn.Module):
        kind = "ener"

        def forward(self, description: Any, graph: Any) -> torch.Tensor:
            return description.descriptor[:, :1].double() * 0.0

    model.fitting = Zero()
    torch.testing.assert_close(model(graph, positions).forces, torch.zeros_like(positions))


def test_other_heads_have_no_forces() -> None:
    model, graph, positions = given("head_dipole")
    with pytest.raises(InputError, match="a dipole model has no forces, energies or virials"):
        model(graph, positions)
    assert model.atomic_output(graph, positions).shape == positions.shape


def test_positions_stay_in_double_precision() -> None:
    model, graph, positions = given("float32")
    with pytest.raises(InputError, match=r"positions should be float64.*got torch\.float32"):
        model(graph, positions.float())


# --- what is remembered for derivatives ---


def test_results_under_no_grad_hold_no_graph() -> None:
    model, graph, positions = given("baseline")
    assert all(value.requires_grad for value in model(graph, positions))
    with torch.no_grad():
        assert not any(value.requires_grad for value in model(graph, positions))


def test_inference_mode_is_refused() -> None:
    model, graph, positions = given("baseline")
    with torch.inference_mode(), pytest.raises(BackendError, match=r"use torch\.no_grad\(\)"):
        model(graph, positions)


class Memory(TorchDispatchMode):
    """Bytes of the tensors made inside: now, and the most that lived at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.made(tensor.untyped_storage())
        return result

    def made(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self.alive:
            self.alive.add(address)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.freed, address, size)

    def freed(self, address: int, size: int) -> None:
        self.alive.discard(address)
        self.now -= size


def peak(function: Callable[[], Any]) -> float:
    with Memory() as memory:
        function()
    return memory.peak


def test_groups_and_checkpoints_change_no_number_and_bound_the_memory() -> None:
    settings = case("all_updates").file.settings
    model, graph, positions = given(**random_frames(settings, n=48))
    run = replace(backend("torch").engine("cpu").run(slope=True), group=4, remember=0, most_bins=12)
    bounded = planned(run, graph_of(settings, **random_frames(settings, n=48))[0])
    same(gradients(model, graph, positions, bounded), gradients(model, graph, positions), 1e-11)

    @torch.no_grad()
    def forces(execution: Execution) -> EnergyForces:
        return model(graph, positions, execution)

    same(forces(bounded), forces(Execution()), 1e-11)
    assert peak(lambda: forces(bounded)) < 0.4 * peak(
        lambda: forces(replace(bounded, checkpoint=Execution().checkpoint))
    )


# --- devices and programs ---


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(BackendError, match=rf"torch cannot use device '{name}' .*; there is cpu"):
        backend("torch").engine(name)


@pytest.mark.slow
def test_a_captured_graph_trains_as_eager_does() -> None:
    """The whole of model, forces and virial in one graph, without the compiler behind it."""
    model, graph, positions = given("baseline")
    expected = gradients(model, graph, positions)
    torch._dynamo.reset()
    captured: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    same(captured(graph, positions), model(graph, positions))
    same(list(gradients(captured, graph, positions).values()), list(expected.values()), 1e-11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # in Inductor's own code
def test_compiled_equals_eager() -> None:
    engine = backend("torch").engine("cpu", compile=True)
    assert engine.rounds_shapes
    assert not backend("torch").engine("cpu").rounds_shapes
    file = random_model(smallest())
    graph, positions = dpmodel_torch.tensors(random_graph(file.settings))
    rebuild, model = Rebuilder(file.model), dpmodel_torch.Model(file.model)
    run = engine.compile(lambda state, graph, x: predict(rebuild(state), graph, x, engine.grad_and_aux))
    found = run(dict(model.state_dict()), graph, positions)
    assert not any(value.requires_grad for value in found)
    same(found, model(graph, positions))


def smallest() -> ModelSettings:
    """One layer with a single update: C++ compilers take their time."""
    updates = ("g1_has_conv", "g1_has_drrd", "g1_has_attn", "g2_has_g1g1", "g2_has_attn")
    repinit = {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 30, "neuron": [2, 4], "axis_neuron": 2, "tebd_dim": 2}
    repformer = {"rcut": 3.5, "rcut_smth": 1.0, "nsel": 20, "nlayers": 1, "g1_dim": 4, "g2_dim": 2, "axis_neuron": 2}
    repformer |= {f"update_{name}": False for name in updates}
    descriptor = {"type": "dpa2", "repinit": repinit, "repformer": repformer}
    return ModelSettings.read({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {"neuron": [4]}})
