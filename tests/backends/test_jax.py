"""What is particular to JAX: precision, compilation, and the functions of pytrees."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.padding import pad_graph
from dpmodel.edit.precision import with_precision
from dpmodel.errors import BackendError, InputError
from dpmodel.execution import Execution
from dpmodel.model.predict import predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.potential import Potential
from dpmodel.xp import detach, namespace
from engines import CHOSEN, engine_of
from random_models import graph_of, random_frames, random_model
from reference_cases import HERE, case

if "jax" not in CHOSEN:
    pytest.skip("jax was not chosen", allow_module_level=True)

import jax
import jax.numpy as jnp

import dpmodel_jax

SMALL = {"axis_neuron": 2, "attn2_hidden": 3, "attn2_nhead": 2, "attn1_hidden": 3, "attn1_nhead": 2}
SETTINGS = ModelSettings.read(
    {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa2",
            "repinit": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 60, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 2},
            "repformer": {"rcut": 3.0, "rcut_smth": 2.0, "nsel": 30, "nlayers": 2, "g1_dim": 6, "g2_dim": 4} | SMALL,
        },
        "fitting_net": {"neuron": [5]},
    }
)
FRAMES = random_frames(SETTINGS, n=15)


@cache
def potential(name: str) -> Potential:
    """The same small model on every engine; compiled once."""
    return Potential(random_model(SETTINGS), backend(name).engine("cpu"))


def same(found: Any, expected: Any, relative: float = 1e-13) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.fixture
def double_precision() -> Iterator[None]:
    """JAX as ``jax_enable_x64`` makes it; elsewhere it is off."""
    with jax.enable_x64(True):
        yield


# --- precision ---


def test_engines_keep_every_type() -> None:
    engine = engine_of("jax")
    for name in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool"):
        given = np.array([[0, 1, 3]], dtype=name)
        found = engine.numpy(engine.native(given))
        assert found.dtype == name
        np.testing.assert_array_equal(found, given)
        found[...] = 0  # the caller's own
    assert engine.numpy(jnp.ones(2, jnp.bfloat16)).dtype == np.float32


def test_engines_share_no_memory() -> None:
    given = np.zeros(10_000)
    arrays = [engine_of("jax").native(given) for _ in range(8)]
    given[:] = 1.0
    assert not any(np.any(x) for x in arrays)


def test_single_precision_elsewhere_changes_nothing() -> None:
    """A program that never heard of x64: potentials are exact, pytrees are refused, and JAX stays as it was."""
    path, folder = HERE / "fparam_aparam" / "model.dp", Path(__file__).parents[1] / "helpers"
    script = f"""
import sys
sys.path.insert(0, {str(folder)!r})
import jax, numpy as np, pytest
import dpmodel, dpmodel_jax
from reference_cases import case

c = case("fparam_aparam")
potential = dpmodel.load({str(path)!r}, backend="jax")
found = potential.evaluate(**c.frames)
c.check(found.energy, "energy")
c.check(found.forces, "force")
assert found.energy.dtype == np.float64
with pytest.raises(dpmodel.BackendError, match="jax.config.update..jax_enable_x64., True."):
    dpmodel_jax.split(potential.file.model)
assert not jax.config.jax_enable_x64 and jax.numpy.ones(1).dtype == np.float32
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=folder)


@pytest.mark.parametrize("name", ["all_updates", "strip_three_body", "not_smooth", "head_polar", "head_property"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_no_types_are_mixed(double_precision: None, name: str, precision: str) -> None:
    c = case(name)
    params, fixed = dpmodel_jax.split(with_precision(c.file, precision).model)
    function = dpmodel_jax.atomic_output if name.startswith("head") else dpmodel_jax.apply
    with jax.numpy_dtype_promotion("strict"):
        found = jax.eval_shape(function, params, fixed, *graph_of(c.file.settings, **c.frames))
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype("float64")}


# --- devices and namespaces ---


def test_devices() -> None:
    assert engine_of("jax").device == "cpu"
    assert backend("jax").engine().rounds_shapes
    for name in ("cpu:7", "abacus", "cpu:first"):
        with pytest.raises(BackendError, match=f"jax has no device '{name}'; there is cpu"):
            backend("jax").engine(name)


def test_tracers_are_arrays_too() -> None:
    def product(x: Any) -> Any:
        assert namespace(x) is namespace(jnp.ones(1))
        return jnp.sum(detach(x) * x)

    x = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    slope = jax.grad(product)
    for found in (slope(x), jax.jit(slope)(x), jax.vmap(slope)(x)):
        np.testing.assert_array_equal(found, x)


# --- compilation ---


def test_compiled_equals_numpy() -> None:
    ours, expected = (potential(name).evaluate(**FRAMES, atom_virial=True) for name in ("jax", "numpy"))
    for name in ("energy", "atom_energy", "forces", "virial", "atom_virial"):
        same(getattr(ours, name), getattr(expected, name))


def test_compiled_equals_eager() -> None:
    """With a part of the model only: out of the compiler's hands, every operation is a program of its own."""
    network = potential("jax").file.model.fitting.network
    rebuild, x = Rebuilder(network), np.random.default_rng(0).standard_normal((7, network.layers[0].n_in))
    found = {}
    for wanted in (False, True):
        engine: Any = backend("jax").engine("cpu", compile=wanted)

        def slope(s: Any, x: Any, engine: Any = engine) -> Any:
            return engine.grad_and_aux(lambda x: (jnp.sum(rebuild(s)(x)), None), x)[0][0]

        arrays = jax.tree.map(engine.native, (state(network), x))
        found[wanted] = [engine.numpy(engine.compile(slope)(*arrays)) for _ in range(2)][-1]
        assert (engine.rounds_shapes, engine.compilations) == (wanted, int(wanted) * 2)
        if not wanted:
            same(engine.numpy(slope(*arrays)), found[wanted])  # outside of compile, too
    same(found[True], found[False])


@pytest.mark.parametrize(("count", "size"), [(1, 1), (6, 3), (7, 3), (7, 4), (9, 8)])
def test_loops_treat_every_row(count: int, size: int) -> None:
    rows = np.arange(float(count)), np.arange(3 * count).reshape(count, 3)
    seen = []

    def function(*x: Any) -> Any:
        seen.append(len(x[0]))
        return x[0] ** 2, x[1].sum(axis=1)

    for found, expected in zip(dpmodel_jax.in_turn(function, rows, size), function(*rows), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert seen[0] <= size
    assert len(seen) == 2


def test_rounded_sizes_and_groups_change_nothing() -> None:
    """A potential rounds the sizes of its graphs; here is the program for the very sizes, four atoms at a time."""
    p = potential("jax")
    engine, rebuild, arrays = p.engine, Rebuilder(p.file.model), graph_of(SETTINGS, **FRAMES)
    assert pad_graph(arrays[0], SETTINGS.selection).neighbors.shape > arrays[0].neighbors.shape
    execution = Execution(group=4, loop=dpmodel_jax.in_turn, checkpoint=engine.checkpoint)
    function = engine.compile(lambda s, graph, x: predict(rebuild(s), graph, x, engine.grad_and_aux, execution))
    expected = function(*jax.tree.map(engine.native, (state(p.file.model), *arrays)))
    found = p.evaluate(**FRAMES, atom_virial=True)
    for name in ("atom_energy", "forces", "atom_virial"):
        same(getattr(found, name)[0], engine.numpy(getattr(expected, name)))


@pytest.mark.parametrize("most_bins", [1, 2])
def test_dynamics_under_pressure_compiles_once_or_twice(most_bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms move and the cell breathes by up to 4 %: so do numbers of neighbors, of all atoms and of bins."""
    p, rng = Potential(potential("jax").file, backend("jax").engine("cpu")), np.random.default_rng(0)
    engine: Any = p.engine
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda slope: replace(run(slope), group=20, most_bins=most_bins))
    widths = set()
    for step in range(20):
        breath = 1.0 + 0.04 * np.sin(1.3 * step)
        moved = 0.1 * rng.standard_normal(FRAMES["positions"].shape)
        strained = FRAMES | {"positions": breath * FRAMES["positions"] + moved, "cell": breath * FRAMES["cell"]}
        p.evaluate(**strained)
        graph, _ = graph_of(SETTINGS, **strained)
        widths.add((graph.neighbors.shape, graph.blocks["repformer"].shape))
    assert len(widths) > 4
    assert 1 <= engine.compilations <= 3


def test_products_are_not_rounded_to_tf32() -> None:
    traced = dpmodel_jax.engine.in_double_precision(jax.make_jaxpr(lambda x: x @ x))
    assert "Precision.HIGHEST" in str(traced(np.eye(2, dtype=np.float32)))
    with jax.default_matmul_precision("tensorfloat32"):
        assert "Precision.HIGHEST" not in str(traced(np.eye(2, dtype=np.float32)))


# --- functions of pytrees ---


def test_split_and_join_are_exact(double_precision: None) -> None:
    for file in (potential("numpy").file, case("float32").file, case("head_polar").file):
        params, fixed = dpmodel_jax.split(file.model)
        joined = dpmodel_jax.join(params, fixed)
        assert Rebuilder(joined) == Rebuilder(file.model)
        for path, value in state(file.model).items():
            found = state(joined)[path]
            assert (type(found), found.dtype) == (np.ndarray, value.dtype)
            np.testing.assert_array_equal(found, value)


def test_apply_under_transformations(double_precision: None) -> None:
    """One program: energies of two copies at once, and their slope with the parameters along a line."""
    params, fixed = dpmodel_jax.split(potential("numpy").file.model)
    graph, positions = graph_of(SETTINGS, **FRAMES)
    rng = np.random.default_rng(0)
    steps = {path: rng.standard_normal(value.shape) for path, value in params.items()}
    both = np.stack([positions, positions + 0.05 * rng.standard_normal(positions.shape)])

    traces = []

    @jax.jit
    def loss_and_slope(params: Any, fixed: Any) -> Any:
        traces.append(1)

        def energies(params: Any) -> Any:
            one = lambda x: dpmodel_jax.atomic_output(params, fixed, graph, x)  # noqa: E731
            found = jax.vmap(one)(both)[:, :, 0]
            return jnp.sum(found**2), found

        return jax.value_and_grad(energies, has_aux=True)(params)

    (_, energies), slopes = loss_and_slope(params, fixed)
    same(energies[:1], potential("numpy").evaluate(**FRAMES).atom_energy)

    def at(by: float) -> Any:
        again = dpmodel_jax.split(potential("numpy").file.model)[1]
        return loss_and_slope({path: params[path] + by * steps[path] for path in params}, again)[0][0]

    expected = sum(np.sum(slopes[path] * steps[path]) for path in params)
    np.testing.assert_allclose((at(1e-6) - at(-1e-6)) / 2e-6, expected, rtol=1e-7)
    assert len(traces) == 1  # a model split anew has the same structure


def test_what_apply_refuses(double_precision: None) -> None:
    graph, positions = graph_of(SETTINGS, **FRAMES)
    params, fixed = dpmodel_jax.split(potential("numpy").file.model)
    with pytest.raises(InputError, match=r"positions should be float64.*got float32"):
        dpmodel_jax.apply(params, fixed, graph, positions.astype(np.float32))
    with jax.enable_x64(False), pytest.raises(BackendError, match="jax_enable_x64"):
        jax.jit(dpmodel_jax.describe)(params, fixed, graph, positions)
    dipole = case("head_dipole")
    with pytest.raises(InputError, match=r"a dipole model has no forces.*atomic_output"):
        dpmodel_jax.apply(*dpmodel_jax.split(dipole.file.model), *graph_of(dipole.file.settings, **dipole.frames))
