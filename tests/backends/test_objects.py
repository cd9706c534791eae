"""Potentials as objects: copied, pickled, asked by several threads, and what they say of numbers that are none."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import Engine
from dpmodel.edit.precision import with_precision
from dpmodel.errors import BackendError, DpmodelError, InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.potential import Potential
from engines import engine_of, potential_of
from random_models import random_model
from reference_cases import case
from sample_settings import model

REPINIT = {"nsel": 30, "neuron": [3, 6], "axis_neuron": 2}
REPFORMER = {"nsel": 12, "nlayers": 1, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2}
SMALL = {f"repinit.{k}": v for k, v in REPINIT.items()} | {f"repformer.{k}": v for k, v in REPFORMER.items()}
SMALL |= {f"repformer.attn{i}_{k}": n for i in (1, 2) for k, n in (("hidden", 4), ("nhead", 1))} | {
    "fitting.neuron": [4]
}
SETTINGS = ModelSettings.read(model(SMALL))
NAME = "fparam_aparam"

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),  # noqa: S301
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_gives_the_same_numbers(engine: Engine, way: str, used: bool) -> None:
    c = case(NAME)
    potential = Potential(c.file, engine, strict=True)
    if used:
        potential.evaluate(**c.frames)
    again = COPIES[way](potential)
    assert (again.engine.name, again.engine.device, again.strict) == (engine.name, engine.device, True)
    assert again.engine.rounds_shapes == engine.rounds_shapes
    if way == "pickle":  # the others go the same way
        expected = potential_of(engine, NAME).evaluate(**c.frames)
        np.testing.assert_array_equal(again.evaluate(**c.frames).forces, expected.forces)


def test_threads_share_a_potential(engine: Engine) -> None:
    """Second derivatives too, each nested in another: none meets those of other threads."""
    potential = Potential(random_model(SETTINGS), engine)
    rng = np.random.default_rng(0)
    frames = [rng.uniform(0.0, 4.0, (4, 3)) for _ in range(8)]

    def numbers(x: np.ndarray) -> Any:
        p = potential.evaluate(x, [0, 1, 1, 0], 14.0 * np.eye(3), hessian=True)
        return p.energy, p.forces, p.hessian

    expected = [numbers(x) for x in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(numbers, frames))
    for ours, right in zip(found, expected, strict=True):
        for a, b in zip(ours, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


MODULES = {"torch": "Model", "paddle": "Model", "jax": "split"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_made_from_a_potential_does_not_share_with_it(name: str) -> None:
    c = case(NAME)
    potential = Potential(c.file, engine_of(name))
    before = {path: engine_of(name).numpy(value).copy() for path, value in potential.evaluator.state.items()}
    made = getattr(import_module(f"dpmodel_{name}"), MODULES[name])
    if name == "jax":
        import jax

        with jax.enable_x64(True):
            params, _ = made(potential.model)
        held = set(map(id, params.values()))
        assert not held & {id(value) for value in potential.evaluator.state.values()}
        return
    module = made(potential.model)
    changed = 0
    for parameter in module.parameters():
        if name == "torch":
            parameter.data.fill_(0.5)
        else:
            parameter.set_value(np.full(parameter.shape, 0.5, str(parameter.numpy().dtype)))
        changed += 1
    assert changed > 10
    for path, value in potential.evaluator.state.items():
        np.testing.assert_array_equal(engine_of(name).numpy(value), before[path], err_msg=path)


# --- numbers that are none ---


def damaged(file: ModelFile) -> ModelFile:
    """A model whose last weight is so large that sums are no numbers."""
    arrays = dict(state(file.model))
    last = [path for path in arrays if path.startswith("fitting.") and path.endswith("weight")][-1]
    arrays[last] = np.full_like(arrays[last], 1.7e308)
    return ModelFile(file.settings, Rebuilder(file.model)(arrays))


def test_numbers_that_are_not_finite_are_an_error(engine: Engine) -> None:
    """In one place, for energies, forces and the outputs of other heads; frame and atom are named."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 4.0, (3, 4, 3))
    potential = Potential(damaged(random_model(SETTINGS)), engine)
    for forces in (True, False):
        with pytest.raises(InputError, match=r"frame 0, atom [0-3]: the energy is not a finite number, its nearest"):
            potential.evaluate(x, [0, 1, 1, 0], forces=forces)
    dipole = Potential(damaged(case("head_dipole").file), engine)
    frames = case("head_dipole").frames
    with pytest.raises(InputError, match=r"frame 0, atom \d+: the dipole is not a finite number"):
        dipole.evaluate(**frames)


def test_the_frame_that_is_not_finite_is_named() -> None:
    """Among many of different sizes, beyond the first call; the others are sound."""
    file = random_model(SETTINGS)
    nan = float("nan")
    bias = np.array([[0.0], [nan]])
    spoiled = ModelFile(file.settings, Rebuilder(file.model)({**state(file.model), "out_bias": bias}))
    rng = np.random.default_rng(1)
    none = np.zeros(3, dtype=bool)
    sound = [dpmodel.Structure(rng.uniform(0.0, 60.0, (300, 3)), np.zeros(300, int), None, none) for _ in range(5)]
    odd = dpmodel.Structure(rng.uniform(0.0, 9.0, (6, 3)), np.array([0, 0, 0, 0, 1, 1]), None, none)
    potential = Potential(spoiled, engine_of("numpy"))
    with pytest.raises(InputError, match="frame 5, atom 4: the energy is not a finite number"):
        potential.evaluate_many([*sound, odd], forces=False)


def test_atoms_that_nearly_coincide(engine: Engine) -> None:
    """In single precision numbers overflow; the two are named, and how close they are, whatever is asked."""
    potential = Potential(with_precision(case("update_h2").file, "float32"), engine)
    x = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [3, 3, 3], [3.002, 3, 3], [2.76, 3.93, 3]])
    ask: list[Callable[..., Any]] = [potential.evaluate]
    if engine.name == "numpy":
        ask += [potential.describe, partial(potential.heat_flux, velocities=x, masses=np.ones(len(potential.type_map)))]
    for function in ask:
        with pytest.raises(InputError, match=r"frame 0, atom [34]: the .* its nearest neighbor is 0.002 Å away"):
            function(x, [0, 1, 1, 0, 1, 1], 8.0 * np.eye(3))


def test_sums_that_are_not_finite_are_an_error_too() -> None:
    file = random_model(SETTINGS)
    bias = np.array([[1e308], [1e308]])
    large = ModelFile(file.settings, Rebuilder(file.model)({**state(file.model), "out_bias": bias}))
    with pytest.raises(InputError, match=r"frame 0, atom \d: the energy is not a finite number"):
        Potential(large, engine_of("numpy")).evaluate(np.eye(3), [0, 1, 1], forces=False)


def test_loading_takes_strict(tmp_path: Any) -> None:
    potential = Potential(random_model(SETTINGS), engine_of("numpy"))
    potential.save(tmp_path / "a.dp")
    x = np.random.default_rng(0).uniform(0.0, 3.0, (50, 3))
    crowd = dpmodel.load(tmp_path / "a.dp", strict=True)
    with pytest.raises(InputError, match="neighbors"):
        crowd.evaluate(x, [0] * 50)
    assert crowd.to("numpy").strict
    made = dpmodel.create(model(SMALL), strict=True)
    with pytest.raises(InputError, match="neighbors"):
        made.evaluate(x, [0] * 50)


def test_every_public_error_is_in_the_package() -> None:
    import dpmodel.errors as errors

    classes = (value for value in vars(errors).values() if isinstance(value, type))
    public = [value.__name__ for value in classes if value.__module__ == errors.__name__]
    assert len(public) >= 7
    for name in public:
        assert getattr(dpmodel, name) is getattr(errors, name)
        assert name in dir(dpmodel)
    assert issubclass(BackendError, DpmodelError)


def test_the_graph_for_a_program_of_your_own() -> None:
    """Structures of two sizes in one graph; rounded sizes change no number and are the same for more structures."""
    random, cell = np.random.default_rng(0), 9.0 * np.eye(3)
    periodic = np.ones(3, dtype=bool)
    frames = [dpmodel.Structure(random.uniform(0, 9, (n, 3)), np.arange(n) % 2, cell, periodic) for n in (6, 9)]
    potential = potential_of(engine_of("numpy"), "baseline")
    expected = potential.evaluate_many(frames)
    shapes = []
    for rounded in (False, True):
        graph, positions = potential.graph(frames, rounded=rounded)
        values = potential.evaluator.energy_forces(graph, positions)
        np.testing.assert_allclose(values.energy, [p.energy[0] for p in expected], rtol=1e-12)
        np.testing.assert_allclose(values.forces[:15], np.concatenate([p.forces[0] for p in expected]), atol=1e-10)
        shapes.append(positions.shape)
    assert shapes == [(15, 3), (16, 3)]
    with pytest.raises(InputError, match="structure 0: "):
        potential.graph([dpmodel.Structure(np.zeros((1, 3)), np.array([7]), cell, periodic)])
