"""Models with every array away from its default, and structures to ask them about."""

from typing import Any

import numpy as np
from hypothesis import Phase, settings

from dpmodel.backend import backend
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import Structure, structures
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.potential import Potential


def examples(count: int) -> settings:
    """Of a property test: this many, not shrunk, since a model is readable at any size and minutes are long."""
    return settings(max_examples=count, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def random_model(settings: ModelSettings, seed: int = 0, *, isotropic: bool = True) -> ModelFile:
    """A model of ``settings`` in which no array keeps a value that could hide a mistake.

    Means are zero where ``set_davg_zero`` says so.  ``isotropic``: as in real statistics, means are zero in the angular
    part and deviations the same for x, y and z; otherwise nothing turns with the structure any more.
    """
    blank, rng = build(settings, seed), np.random.default_rng(seed)
    values = {path: perturbed(path, value, settings, rng) for path, value in state(blank).items()}
    if not isotropic:
        for path in [path for path in values if path.endswith((".mean", ".stddev")) and np.any(values[path])]:
            values[path] = values[path] + rng.uniform(0.0, 0.1, values[path].shape)
    return ModelFile(settings, Rebuilder(blank)(values))


def perturbed(path: str, value: np.ndarray, settings: ModelSettings, rng: np.random.Generator) -> np.ndarray:
    name = path.rpartition(".")[2]
    if name == "features":  # electronic configurations are what they are
        return value
    if name == "stddev":
        radial, angular = rng.uniform(0.2, 0.5, (2, len(value), 1))
        return np.concatenate([radial, angular, angular, angular], axis=1).astype(value.dtype)
    if name == "mean":
        block = settings.descriptor.repformer if ".repformer." in path else settings.descriptor.repinit
        radial = 0.0 if block.set_davg_zero else rng.uniform(-0.2, 0.2, len(value))
        return value + np.stack([np.zeros(len(value)) + radial] + [np.zeros(len(value))] * 3, axis=1).astype(
            value.dtype
        )
    scale = 0.1 if np.any(value) else 0.5
    return (value + scale * rng.standard_normal(value.shape)).astype(value.dtype)


def random_potential(settings: ModelSettings, seed: int = 0) -> Potential:
    return Potential(random_model(settings, seed), backend("numpy").engine())


def evaluate(potential: Potential, frames: dict[str, Any], **options: Any) -> Any:
    """A ``Prediction``, whose fields are taken to be there."""
    return potential.evaluate(**frames, **options)


def random_frames(
    settings: ModelSettings, seed: int = 0, *, n: int = 5, nf: int = 1, periodic: bool = True, filling: float = 0.4
) -> dict[str, Any]:
    """Arguments of ``Potential.evaluate``: ``n`` atoms of all types in skewed cells, no two of them close.

    Dense enough that the fullest of the blocks has ``filling`` of its slots occupied on average.
    """
    rng = np.random.default_rng(seed)
    density = min(filling * float(nsel) / (4.2 * rcut**3) for rcut, nsel, _ in settings.descriptor.selections)
    cell = (n / density) ** (1 / 3) * (np.eye(3) + rng.uniform(-0.2, 0.2, (nf, 3, 3)))
    fitting = settings.fitting_net
    frames: dict[str, Any] = {
        "positions": np.stack([spread(rng, box, n, apart=0.6 * density ** (-1 / 3)) for box in cell]),
        "types": rng.permuted(np.tile(np.arange(n) % settings.n_types, (nf, 1)), axis=1),
    }
    if periodic:
        frames["cell"] = cell
    if fitting.numb_fparam:
        frames["fparam"] = rng.standard_normal((nf, fitting.numb_fparam))
    if fitting.numb_aparam and not fitting.use_aparam_as_mask:
        frames["aparam"] = rng.standard_normal((nf, n, fitting.numb_aparam))
    return frames


def random_graph(settings: ModelSettings, seed: int = 0, **options: Any) -> tuple[Graph, np.ndarray]:
    """The graph of ``random_frames``, and positions (N, 3)."""
    frames = random_frames(settings, seed, **options)
    return graph_of(settings, **frames)


def graph_of(settings: ModelSettings, **frames: Any) -> tuple[Graph, np.ndarray]:
    """The graph of arguments of ``Potential.evaluate``, and positions (N, 3)."""
    checked = structures_of(settings, **frames)
    return build_graph(checked, settings.selection), flat_positions(checked)


def structures_of(
    settings: ModelSettings, positions: Any, types: Any, cell: Any = None, **rest: Any
) -> list[Structure]:
    fitting = settings.fitting_net
    return structures(
        positions,
        types,
        cell,
        type_map=settings.type_map,
        n_fparam=fitting.numb_fparam,
        n_aparam=0 if fitting.use_aparam_as_mask else fitting.numb_aparam,
        default_fparam=fitting.default_fparam,
        **rest,
    )


def spread(rng: np.random.Generator, cell: np.ndarray, n: int, apart: float) -> np.ndarray:
    """(n, 3): random points, no two of them or of their images closer than ``apart``, or than a tight cell allows."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ cell
    points: list[np.ndarray] = []
    while len(points) < n:
        new = rng.uniform(size=3) @ cell
        if all(np.linalg.norm(new - x + images, axis=1).min() > apart for x in points):
            points.append(new)
        apart *= 0.999  # a flat cell may have no room: give way, but end
    return np.array(points)
