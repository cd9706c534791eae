"""A row of options as a case: a model with random numbers in all its arrays, and structures."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import Structure
from dpmodel.errors import NeighborOverflowWarning
from dpmodel.graph import Graph, Selection
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.testing.options import STRUCTURE, section
from dpmodel.testing.structures import random_structure
from dpmodel.xp import Array


@dataclass(frozen=True)
class Case:
    """A case: ``values`` of the options, and the ``seed`` of everything random."""

    values: dict[str, Any]
    seed: int

    @cached_property
    def settings(self) -> ModelSettings:
        return ModelSettings.read(section(self.values))

    @cached_property
    def model(self) -> ModelFile:
        """Every array random: also those that begin as zeros and ones, which would hide mistakes."""
        settings = self.settings
        model, random = build(settings, self.seed), np.random.default_rng(self.seed)
        arrays = {}
        for path, value in state(model).items():
            stem = path.rstrip(".0123456789")
            draw = next((draw for end, draw in RANDOM.items() if f".{stem}".endswith(end)), None)
            arrays[path] = value if draw is None else draw(random, value).astype(value.dtype)
        for block in settings.descriptor.block_settings.values():
            if not block.has_mean:
                path = f"descriptor.{block.statistics}.mean"
                arrays[path] = np.zeros_like(arrays[path])
        return ModelFile(settings, Rebuilder(model)(arrays))

    @cached_property
    def structures(self) -> list[Structure]:
        random = np.random.default_rng([self.seed, 1])
        option = {name: self.values[f"structure.{name}"] for name in STRUCTURE}
        fewer = {"one": (0,), "two": (0, 0), "two sizes": (0, 1)}[option.pop("frames")]
        frames = [random_structure(**option, n_types=self.settings.n_types, fewer=f, random=random) for f in fewer]
        wants = self.settings.fitting_net
        return [
            Structure(
                s.positions,
                s.types,
                s.cell,
                s.pbc,
                fparam=random.normal(size=wants.numb_fparam) if wants.numb_fparam else None,
                aparam=random.normal(size=(len(s.types), wants.numb_aparam)) if wants.numb_aparam else None,
            )
            for s in frames
        ]

    @cached_property
    def selection(self) -> Selection:
        return self.settings.selection

    @cached_property
    def graph(self) -> Graph:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NeighborOverflowWarning)  # meant
            return build_graph(self.structures, self.selection)

    @cached_property
    def positions(self) -> Array:
        """(N, 3) angstrom, of all frames."""
        return flat_positions(self.structures)

    @property
    def is_single(self) -> bool:
        """Whether some of it is computed in single precision."""
        return "float32" in (self.settings.descriptor.dtype, self.settings.fitting_net.dtype)


def _normal(mean: float, std: float) -> Callable[[np.random.Generator, Array], Array]:
    return lambda random, value: random.normal(mean, std, value.shape)


def _uniform(low: float, high: float) -> Callable[[np.random.Generator, Array], Array]:
    return lambda random, value: random.uniform(low, high, value.shape)


def _mean(random: np.random.Generator, value: Array) -> Array:
    """As files have it: no direction is preferred."""
    return random.uniform(0.1, 0.4, (len(value), 1)) * [1.0, 0.0, 0.0, 0.0]


def _stddev(random: np.random.Generator, value: Array) -> Array:
    return random.uniform(0.4, 1.2, (len(value), 2))[:, [0, 1, 1, 1]]


def _one_hot(random: np.random.Generator, value: Array) -> Array:
    return np.eye(len(value))[random.integers(len(value))]


# by the end of the array's path; others are random from the start
RANDOM: dict[str, Callable[[np.random.Generator, Array], Array]] = {
    ".mean": _mean,
    ".stddev": _stddev,
    ".idt": _normal(0.5, 0.2),
    "norm.weight": _normal(1.0, 0.3),
    "norm.bias": _normal(0.0, 0.3),
    "_residual": _normal(0.0, 0.5),
    ".out_bias": _normal(0.0, 3.0),
    ".out_std": _uniform(0.5, 2.0),
    "param_avg": _normal(0.0, 1.0),
    "param_inv_std": _uniform(0.5, 2.0),
    ".case": _one_hot,
    ".scale": _uniform(0.5, 2.0),
    ".constant": _normal(0.0, 1.0),
    ".bias": _normal(0.0, 1.0),
    "head_map.weight": _normal(0.0, 1.0),  # of one head it would be 1
}
