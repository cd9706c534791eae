"""Derivatives against finite differences of what they are derivatives of, and the backends against each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import Engine
from dpmodel.graph import Graph
from dpmodel.model.model import Model
from dpmodel.model.predict import EnergyForces, predict
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.xp import namespace
from engines import engine_of, potential_of
from random_models import graph_of
from reference_cases import case

STEP = 2e-4  # angstrom
CASES = ["all_updates", "strip_three_body"]


def slope(function: Callable[[float], Any]) -> Any:
    """The derivative at zero, by differences of fourth order."""
    near, wide = (function(by) - function(-by) for by in (STEP, 2 * STEP))
    return (8 * near - wide) / (12 * STEP)


def moved(frames: dict[str, Any], f: int, i: int, k: int, by: float) -> dict[str, Any]:
    """``frames`` with atom ``i`` of frame ``f`` moved along ``k``."""
    positions = frames["positions"].copy()
    positions[f, i, k] += by
    return frames | {"positions": positions}


def strained(frames: dict[str, Any], a: int, b: int, by: float) -> dict[str, Any]:
    """``frames`` with every vector v replaced by v + by v_b e_a."""
    strain = np.eye(3)
    strain[a, b] += by
    return frames | {name: frames[name] @ strain.T for name in ("positions", "cell")}


@pytest.mark.needs("forces")
@pytest.mark.parametrize("name", CASES)
def test_forces_are_slopes_of_the_energy(engine: Engine, name: str) -> None:
    potential, frames = potential_of(engine, name), case(name).frames
    forces = potential.evaluate(**frames).forces

    def energy(f: int, i: int, k: int) -> Callable[[float], Any]:
        return lambda by: potential.evaluate(**moved(frames, f, i, k, by)).energy[f]

    for f, i in ((0, 0), (0, 3), (1, 6)):
        found = [-slope(energy(f, i, k)) for k in range(3)]
        np.testing.assert_allclose(found, forces[f, i], rtol=0, atol=1e-8 * np.abs(forces).max())


@pytest.mark.needs("virial")
@pytest.mark.parametrize("name", CASES)
def test_virials_are_slopes_with_strain(engine: Engine, name: str) -> None:
    potential, frames = potential_of(engine, name), case(name).frames
    virial = potential.evaluate(**frames).virial

    def energy(a: int, b: int) -> Callable[[float], Any]:
        return lambda by: potential.evaluate(**strained(frames, a, b, by)).energy

    for a, b in ((0, 0), (0, 2), (2, 0), (1, 2), (2, 2)):
        found = -slope(energy(a, b))
        np.testing.assert_allclose(found, virial[:, a, b], rtol=0, atol=1e-8 * np.abs(virial).max())


@pytest.mark.needs("hessian")
def test_hessian_is_the_slope_of_the_forces(engine: Engine) -> None:
    potential, frames = potential_of(engine, "all_updates"), case("all_updates").frames
    hessian = potential.evaluate(**frames, hessian=True).hessian
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, hessian.transpose(0, 3, 4, 1, 2), rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(hessian.sum(axis=3), 0.0, rtol=0, atol=1e-12 * scale)  # moving all atoms changes nothing

    def forces(f: int, i: int, k: int) -> Callable[[float], Any]:
        return lambda by: potential.evaluate(**moved(frames, f, i, k, by)).forces[f]

    for f, i in ((0, 0), (1, 6)):
        found = [-slope(forces(f, i, k)) for k in range(3)]
        np.testing.assert_allclose(found, hessian[f, i], rtol=0, atol=1e-8 * scale)


# --- training: a loss with forces in it, by all parameters, through the objects a program of one's own would use ---


def loss(p: EnergyForces) -> Any:
    xp = namespace(p.energy)
    return xp.sum(p.energy) + xp.sum(p.forces * p.forces) + xp.sum(p.virial * p.virial)


def numpy_gradients(model: Model, graph: Graph, positions: np.ndarray) -> dict[str, np.ndarray]:
    """A derivative of a derivative by HIPS autograd, which none of the frameworks has a part in."""
    grad, rebuild, every = engine_of("numpy").grad_and_aux, Rebuilder(model), state(model)
    names = [path for path, _, about in arrays(model) if about["trainable"]]

    def of(*values: Any) -> tuple[Any, None]:
        return loss(predict(rebuild(every | dict(zip(names, values, strict=True))), graph, positions, grad)), None

    return dict(zip(names, grad(of, *(every[name] for name in names))[0], strict=True))


def torch_gradients(model: Model, graph: Graph, positions: np.ndarray) -> dict[str, np.ndarray]:
    import dpmodel_torch

    module = dpmodel_torch.Model(model)
    loss(module(*dpmodel_torch.tensors((graph, positions)))).backward()
    return {path: parameter.grad.numpy() for path, parameter in module.named_parameters() if parameter.grad is not None}


def jax_gradients(model: Model, graph: Graph, positions: np.ndarray) -> dict[str, np.ndarray]:
    import jax

    import dpmodel_jax

    with jax.enable_x64(True):
        params, fixed = dpmodel_jax.split(model)
        found = jax.jit(jax.grad(lambda *args: loss(dpmodel_jax.apply(*args))))(params, fixed, graph, positions)
        return {path: np.asarray(value) for path, value in found.items()}


def paddle_gradients(model: Model, graph: Graph, positions: np.ndarray) -> dict[str, np.ndarray]:
    import dpmodel_paddle

    layer = dpmodel_paddle.Model(model)
    loss(layer(*dpmodel_paddle.tensors((graph, positions)))).backward()
    return {path: x.grad.numpy() for path, x in layer.state().items() if not x.stop_gradient}


GRADIENTS = {
    "numpy": numpy_gradients,
    "torch": torch_gradients,
    "jax": jax_gradients,
    "paddle": paddle_gradients,
}


@pytest.mark.needs("parameter_gradients")
def test_gradients_of_a_loss_by_every_parameter(engine: Engine) -> None:
    file = case("all_updates").file
    graph, positions = graph_of(file.settings, **case("all_updates").frames)
    expected = numpy_gradients(file.model, graph, positions)
    found = GRADIENTS[engine.name](file.model, graph, positions)
    assert found.keys() == expected.keys()
    for path, value in found.items():
        largest = np.abs(expected[path]).max()
        np.testing.assert_allclose(value, expected[path], rtol=0, atol=1e-9 * largest, err_msg=path)


def test_numpy_gradients_are_slopes_of_the_loss() -> None:
    """All parameters move at once, in a direction drawn for each."""
    c, rng = case("all_updates"), np.random.default_rng(0)
    graph, positions = graph_of(c.file.settings, **c.frames)
    gradients = numpy_gradients(c.file.model, graph, positions)
    directions = {path: rng.standard_normal(value.shape) for path, value in gradients.items()}
    rebuild, every, grad = Rebuilder(c.file.model), state(c.file.model), engine_of("numpy").grad_and_aux

    def at(by: float) -> Any:
        model = rebuild(every | {path: every[path] + by * step for path, step in directions.items()})
        return loss(predict(model, graph, positions, grad))

    expected = sum(np.sum(gradients[path] * step) for path, step in directions.items())
    np.testing.assert_allclose((at(1e-6) - at(-1e-6)) / 2e-6, expected, rtol=1e-6)
