"""What is particular to Paddle: derivatives, static programs, devices, and the nn.Layer."""

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.errors import BackendError, InputError
from dpmodel.execution import Execution, in_turn
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.model.predict import EnergyForces, hessian_product, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.xp import namespace
from engines import engine_of
from random_models import graph_of, random_frames, random_model
from reference_cases import case

paddle = pytest.importorskip("paddle")
import dpmodel_paddle  # noqa: E402
from dpmodel_paddle.trees import mapped  # noqa: E402

EAGER, STATIC = (dpmodel_paddle.backend.engine("cpu", compile=wanted) for wanted in (False, True))
SETTINGS = ModelSettings.read(
    {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa2",
            "repinit": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 40, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 2},
            "repformer": {
                "rcut": 3.0, "rcut_smth": 2.0, "nsel": 20, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2,
                "attn2_hidden": 3, "attn2_nhead": 2, "attn1_hidden": 3, "attn1_nhead": 2,
            },
        },
        "fitting_net": {"neuron": [5]},
    }
)  # fmt: skip


@cache
def example() -> tuple[Model, Graph, np.ndarray]:
    """A model, a graph of two frames and their positions, in NumPy arrays."""
    return random_model(SETTINGS).model, *graph_of(SETTINGS, **random_frames(SETTINGS, n=6, nf=2))


def on(engine: Any, function: Callable[..., Any], *more: np.ndarray) -> Any:
    """``function(model, graph, positions, *more)`` of the example on ``engine``, in NumPy arrays."""
    model, graph, positions = example()
    rebuild = Rebuilder(model)
    compiled = engine.compile(lambda s, g, *x: function(rebuild(s), g, *x))
    return mapped(engine.numpy, compiled(*mapped(engine.native, [state(model), graph, positions, *more])))


@cache
def energy_forces(engine: Any, execution: Execution | None = None) -> EnergyForces:
    return on(engine, lambda model, graph, x: predict(model, graph, x, engine.grad_and_aux, execution))


def same(found: Any, expected: Any, relative: float = 1e-13) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


# --- derivatives ---


def test_hessian_in_every_mode() -> None:
    direction = np.random.default_rng(0).standard_normal(example()[2].shape)
    for engine in (EAGER, STATIC):
        ours = on(engine, lambda m, g, x, d, grad=engine.grad_and_aux: hessian_product(m, g, x, d, grad), direction)
        expected = hessian_product(*example(), direction, engine_of("numpy").grad_and_aux)
        same(ours, expected)


def test_a_derivative_by_some_of_the_variables() -> None:
    """d/dw of (dE/dx)^2 with E = w / x^2: alone, Paddle crashes where that by the divisor is not asked for."""
    w, x = np.array([2.0, 3.0]), np.array([0.5, 2.0])

    def steepness(w: Any) -> Any:
        (slope,), _ = EAGER.grad_and_aux(lambda x: ((w / (x * x)).sum(), None), EAGER.native(x))
        return (slope * slope).sum(), None

    (found,), _ = EAGER.compile(lambda w: EAGER.grad_and_aux(steepness, w))(EAGER.native(w))
    same(found.numpy(), 8.0 * w / x**6)


def test_arguments_that_do_not_matter_have_zero_slope() -> None:
    x, y = EAGER.native(np.ones((2, 3))), EAGER.native(np.ones(4))
    (of_x, of_y), aux = EAGER.grad_and_aux(lambda x, y: (x.sum() * 2.0, {"y": (y, None)}), x, y)
    np.testing.assert_array_equal(of_x, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(of_y, np.zeros(4))
    assert aux["y"][1] is None


def test_whether_results_can_be_differentiated_again() -> None:
    x = EAGER.native(np.array([3.0]))
    cube = lambda x: ((x * x * x).sum(), x * x)  # noqa: E731
    x.stop_gradient = False
    (slope,), square = EAGER.grad_and_aux(cube, x)
    for value, expected in ((slope, 18.0), (square, 6.0)):
        np.testing.assert_array_equal(paddle.grad(value, x, retain_graph=True)[0], [expected])
    with paddle.no_grad():
        (slope,), square = EAGER.grad_and_aux(cube, x)
    assert slope.stop_gradient
    assert square.stop_gradient
    np.testing.assert_array_equal(slope, [27.0])


@pytest.mark.parametrize("engine", [EAGER, STATIC], ids=["eager", "static"])
def test_nothing_of_the_callers_changes(engine: Any) -> None:
    x, w = EAGER.native(np.arange(3.0)), paddle.nn.Parameter(EAGER.native(np.ones(3)))

    def wide(x: Any, w: Any) -> Any:
        return EAGER.grad_and_aux(lambda x, w: ((x * x * w).sum(), xp.concat([x, w, x * w])), x, w)

    xp = namespace(x)
    slopes, together = engine.compile(wide)(x, w)
    assert [v.stop_gradient for v in (*slopes, together)] == [True] * 3
    assert [v.stop_gradient for v in (x, w)] == [True, False]
    assert [v.grad for v in (x, w)] == [None, None]
    np.testing.assert_array_equal(x.numpy(), np.arange(3.0))
    np.testing.assert_array_equal(w.numpy(), np.ones(3))


# --- checkpoints ---


def test_checkpoints_change_no_number() -> None:
    plain = energy_forces(EAGER)
    found = energy_forces(EAGER, Execution(group=5, checkpoint=EAGER.checkpoint))
    for name in EnergyForces._fields:
        same(getattr(found, name), getattr(plain, name))


def grouped(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """``sum(function(x)^2 + x^2)`` two rows at a time; one result is the argument, another comes twice."""
    apply = EAGER.checkpoint(lambda x: (y := function(x), x, y))

    def total(x: Any) -> Any:
        y, through, again = in_turn(apply, [x], 2)
        return (y * again).sum() + (through * through).sum(), None

    return total


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_checkpoints_recompute_where_nobody_looks_further(again: bool) -> None:
    calls: list[bool] = []

    def cube(x: Any) -> Any:
        calls.append(paddle.is_grad_enabled())
        return x * x * x

    x = np.arange(1.0, 7.0).reshape(6, 1)
    with paddle.set_grad_enabled(again):
        (found,), _ = EAGER.grad_and_aux(grouped(cube), EAGER.native(x))
    np.testing.assert_allclose(found.numpy(), 6.0 * x**5 + 2.0 * x, rtol=1e-15)
    assert len(calls) == (3 if again else 6)


def test_checkpoints_let_parameters_learn() -> None:
    """In an energy alone and in a slope of it, by a parameter that the function brings along."""
    x, w = EAGER.native(np.array([[1.0], [2.0], [3.0]])), EAGER.native(np.array(2.0))

    def energy(w: Any) -> Any:  # sum w^2 x^4 + x^2
        return grouped(lambda x: w * x * x)(x)

    def steepness(w: Any) -> Any:  # sum (4 w^2 x^3 + 2 x)^2
        (slope,), _ = EAGER.grad_and_aux(grouped(lambda x: w * x * x), x)
        return (slope * slope).sum(), None

    v = x.numpy()
    for function, expected in (
        (energy, 2 * 2.0 * v**4),
        (steepness, 2 * (4 * 4.0 * v**3 + 2 * v) * 8 * 2.0 * v**3),
    ):
        (found,), _ = EAGER.compile(lambda w, f=function: EAGER.grad_and_aux(f, w))(w)
        np.testing.assert_allclose(found.numpy(), expected.sum(), rtol=1e-14)


# --- engines ---


def test_programs_are_made_once_a_shape() -> None:
    traced: list[tuple[int, ...]] = []

    def double(tree: Any) -> Any:
        traced.append(tuple(tree["x"].shape))
        return {"twice": (tree["x"] * 2.0, None)}

    compiled = STATIC.compile(double)
    for n in (2, 3, 2, 3):
        found = compiled({"x": STATIC.native(np.arange(float(n))), "nothing": None})
        assert found["twice"][1] is None
        np.testing.assert_array_equal(found["twice"][0].numpy(), 2.0 * np.arange(n))
    assert traced == [(2,), (3,)]
    assert STATIC.rounds_shapes
    assert not EAGER.rounds_shapes


def test_programs_equal_eager_evaluation() -> None:
    """Both run the same kernels in the same precision; programs may share or reorder sums: a few roundings differ."""
    eager, static = energy_forces(EAGER), energy_forces(STATIC)
    for name in EnergyForces._fields:
        same(getattr(static, name), getattr(eager, name), relative=1e-14)


def test_engines_keep_numbers_and_share_no_memory() -> None:
    for name in ("float64", "float32", "int64", "int32", "uint8", "bool"):
        for shape in ((2, 3), (0, 3), ()):
            given = np.ones(shape, dtype=name)
            native = EAGER.native(np.moveaxis(given, 0, -1) if shape else given)
            given[...] = 0
            found = EAGER.numpy(native)
            assert (found.dtype, found.shape) == (given.dtype, shape[::-1])
            assert np.all(found == 1)
            found[...] = 0
            assert np.all(EAGER.numpy(native) == 1)
    extremes = np.array([np.nan, np.inf, -0.0, 5e-324, 1.7e308])
    assert EAGER.numpy(EAGER.native(extremes)).tobytes() == extremes.tobytes()


def test_devices() -> None:
    assert EAGER.device == "cpu"
    assert backend("paddle").engine().device == paddle.get_device()
    for name in ("gpu:99", "cuda:99", "abacus", "cpu:1"):
        with pytest.raises(BackendError, match=f"paddle cannot use device '{name}'; there is cpu"):
            backend("paddle").engine(name)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_refused(precision: str) -> None:
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    with pytest.raises(BackendError, match=rf"not in {precision}: load with precision='float32'"):
        EAGER.native(np.ones(2, np.dtype(precision)))


def test_importing_is_quiet_and_changes_nothing() -> None:
    """Of Paddle or Python: dtype, device, gradients, operators of traced values, random numbers, warnings."""
    script = """
import random, sys, warnings
import numpy as np
import dpmodel
assert "paddle" not in sys.modules
filters = list(warnings.filters)
import dpmodel_paddle
assert warnings.filters == filters

import paddle
from paddle.framework import core
def seen():
    flags = core._is_fwd_prim_enabled(), core._is_bwd_prim_enabled(), core._is_eager_prim_enabled()
    operators = [getattr(paddle.pir.Value, f"__{n}__") for n in "add radd sub rsub mul rmul truediv rtruediv".split()]
    seeds = [state.current_seed() for state in paddle.get_rng_state()]
    generators = np.random.get_state()[1].tolist(), random.getstate(), seeds
    modes = paddle.in_dynamic_mode(), paddle.is_grad_enabled(), paddle.get_default_dtype(), paddle.get_device()
    return flags, operators, generators, modes, np.geterr()

before = seen()
def squares(x):
    return dpmodel_paddle.grad_and_aux(lambda x: (sum((x * x / 3.0).sum() for _ in "ab"), None), x)[0][0]
for wanted in (False, True):
    engine = dpmodel_paddle.backend.engine(compile=wanted)
    curvature = lambda x: dpmodel_paddle.grad_and_aux(lambda x: (squares(x).sum(), None), x)[0]
    engine.compile(curvature)(engine.native(np.ones(3)))
    try:
        engine.compile(lambda x: x.nonsense)(engine.native(np.ones(3)))
    except AttributeError:
        pass
    else:
        raise AssertionError
    assert seen() == before, wanted
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import dpmodel_paddle"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


# --- the nn.Layer ---


def on_layer(layer: Any, method: str = "forward") -> Any:
    with paddle.no_grad():
        return mapped(EAGER.numpy, getattr(layer, method)(*dpmodel_paddle.tensors(example()[1:])))


def test_layers_hold_arrays_under_their_paths() -> None:
    layer = dpmodel_paddle.Model(example()[0])
    trained = {path for path, _, about in arrays(example()[0]) if about["trainable"]}
    named = {path.replace(".", "__") for path in state(example()[0])}
    assert set(layer.state_dict()) == named
    assert {name for name, _ in layer.named_parameters()} == {path.replace(".", "__") for path in trained}
    assert {path for path, value in layer.state().items() if not value.stop_gradient} == trained
    assert all(buffer.stop_gradient for buffer in layer.buffers())


@pytest.mark.parametrize("name", ["all_updates", "float32", "head_polar"])
def test_layers_give_arrays_back_exactly(name: str) -> None:
    model = case(name).file.model
    found = dpmodel_paddle.Model(model).to_numpy()
    assert Rebuilder(found) == Rebuilder(model)
    for path, value in state(model).items():
        ours = state(found)[path]
        assert (type(ours), ours.dtype) == (np.ndarray, value.dtype)
        np.testing.assert_array_equal(ours, value)


def test_layers_compute_what_the_core_does() -> None:
    layer, (model, graph, positions) = dpmodel_paddle.Model(example()[0]), example()
    expected = predict(model, graph, positions, engine_of("numpy").grad_and_aux)
    for ours, theirs in zip(on_layer(layer), expected, strict=True):
        same(ours, theirs)
    described = model.descriptor(graph, positions[graph.neighbors] - positions[:, None] + graph.shift)
    same(on_layer(layer, "describe").descriptor, described.descriptor)
    same(on_layer(layer, "atomic_output")[:, 0], expected.atom_energy)
    part = dpmodel_paddle.Module(model.descriptor.repformer.g2_embedding)
    same(part(EAGER.native(np.ones((2, 1)))).numpy(), model.descriptor.repformer.g2_embedding(np.ones((2, 1))))


def test_layers_take_other_arrays() -> None:
    model = random_model(SETTINGS, seed=1).model
    layer = dpmodel_paddle.Model(example()[0])
    layer.load(state(model))
    same(on_layer(layer).energy, on_layer(dpmodel_paddle.Model(model)).energy, relative=0.0)
    good = state(example()[0])
    path = "fitting.network.layers.0.bias"
    for bad, words in (
        ({p: v for p, v in good.items() if p != path}, rf"in one of them only: {path}"),
        (good | {path: good[path][:-1]}, rf"{path} should be \(5,\) of .*float64, got \(4,\)"),
        (good | {path: good[path].astype("float32")}, rf"{path} should be .*float64, got .*float32"),
    ):
        with pytest.raises(InputError, match=words):
            layer.load(bad)
        same(on_layer(layer).energy, on_layer(dpmodel_paddle.Model(model)).energy, relative=0.0)
    layer.set_state_dict(dpmodel_paddle.Model(example()[0]).state_dict())  # Paddle's own way
    same(on_layer(layer).energy, on_layer(dpmodel_paddle.Model(example()[0])).energy, relative=0.0)


def test_layers_learn_forces() -> None:
    """A few steps of an optimizer of Paddle's bring forces closer to others'; a copy stays what it was."""
    layer, wanted = dpmodel_paddle.Model(example()[0]), dpmodel_paddle.Model(random_model(SETTINGS, seed=1).model)
    graph, positions = dpmodel_paddle.tensors(example()[1:])
    kept, target = copy.deepcopy(layer), EAGER.native(on_layer(wanted).forces)
    before = on_layer(layer)
    optimizer = paddle.optimizer.Adam(1e-3, parameters=layer.parameters())
    losses = []
    for _ in range(4):
        loss = ((layer(graph, positions).forces - target) ** 2).sum()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    assert all(later < earlier for earlier, later in pairwise(losses))
    same(on_layer(kept).energy, before.energy, relative=0.0)


def test_what_layers_refuse() -> None:
    graph, positions = dpmodel_paddle.tensors(example()[1:])
    layer, dipole = dpmodel_paddle.Model(example()[0]), dpmodel_paddle.Model(case("head_dipole").file.model)
    with pytest.raises(InputError, match=r"positions should be float64.*got .*float32"):
        layer(graph, positions.astype("float32"))
    with pytest.raises(InputError, match=r"graph.shift should be float64.*got .*float32"):
        layer.describe(graph._replace(shift=graph.shift.astype("float32")), positions)
    with pytest.raises(InputError, match="a dipole model has no forces, energies or virials"):
        dipole(graph, positions)
