"""The statistics that a model takes from its training data before it is trained (specification/training.md 7)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.systems import Frame
from dpmodel.dpa2.neighborhood import neighborhood, real_slots
from dpmodel.graph import Selection
from dpmodel.model.model import Model
from dpmodel.model.predict import edge_vectors
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.ops.geometry import environment
from dpmodel.statistics.output import output_sample, output_statistics
from dpmodel.xp import Array

SMALLEST = 0.01  # no deviation of environment rows is below this
ABSENT = 0.1  # deviation for types that the data do not have


class Moments(NamedTuple):
    """Number, sum and sum of squares of samples; arrays of one shape, which add up over frames and tasks."""

    number: Array
    total: Array
    squares: Array

    @property
    def mean(self) -> Array:
        return self.total / np.maximum(self.number, 1)

    @property
    def deviation(self) -> Array:
        return np.sqrt(np.maximum(self.squares / np.maximum(self.number, 1) - self.mean**2, 0.0))


def add(a: Moments, b: Moments) -> Moments:
    """The moments of both samples together."""
    return Moments(*(x + y for x, y in zip(a, b, strict=True)))


def scaled(a: Moments, factor: float) -> Moments:
    """The moments of a sample that counts ``factor`` times."""
    return Moments(*(factor * x for x in a))


def of_samples(x: Array) -> Moments:
    """Moments of samples (n, k) over the first axis."""
    return Moments(np.full(x.shape[1], len(x)), x.sum(axis=0), (x * x).sum(axis=0))


@dataclass(frozen=True)
class Statistics:
    """All that is taken from a sample of frames.

    ``rows``: for each block, moments (n_types, 2) of radial and angular components; output ``bias`` and its
    ``deviation`` (n_types, k), eV for energies; moments of frame and atomic parameters.
    """

    rows: dict[str, Moments]
    bias: Array
    deviation: Array
    fparam: Moments | None = None
    aparam: Moments | None = None


def statistics(frames: Iterable[Frame], settings: ModelSettings) -> Statistics:
    """Statistics of ``frames`` for the model that ``settings`` describe."""
    chosen = settings.selection
    zeros = np.zeros((settings.n_types, 2))
    rows = {name: Moments(zeros, zeros, zeros) for name in chosen.blocks}
    outputs, fparams, aparams = [], [], []
    for frame in frames:
        s = frame.structure
        for name in rows:
            rows[name] = add(rows[name], row_moments(frame, name, chosen, settings))
        outputs.append(output_sample(frame, settings))
        fparams += [s.fparam] if s.fparam is not None else []
        aparams += [s.aparam] if s.aparam is not None else []
    return Statistics(
        rows,
        *output_statistics(outputs, settings),
        of_samples(np.stack(fparams)) if fparams else None,
        of_samples(np.concatenate(aparams)) if aparams else None,
    )


def row_moments(frame: Frame, name: str, chosen: Selection, settings: ModelSettings) -> Moments:
    """Moments (n_types, 2) of the environment rows that one block sees of one frame, empty slots counted as zeros."""
    block, d = chosen.blocks[name], settings.descriptor
    graph = build_graph([frame.structure], replace(chosen, blocks={name: block}))  # cut and truncated for it alone
    near = neighborhood(graph, edge_vectors(graph, flat_positions([frame.structure])), graph.blocks[name])
    real = real_slots(near, d.exclude_types, settings.n_types)
    n, smooth = len(near.types), d.block_settings[name].smooth_cutoff
    nothing, one = np.zeros((n, 4)), np.ones((n, 4))
    rows = environment(near.vectors, real, nothing, one, smooth, block.cutoff, d.env_protection).rows
    atoms = np.bincount(near.types, minlength=settings.n_types + 1)[:-1, None]
    return Moments(
        atoms * block.nsel * np.array([1, 3]),
        _by_type(rows, near.types, settings.n_types),
        _by_type(rows * rows, near.types, settings.n_types),
    )


def _by_type(rows: Array, types: Array, n_types: int) -> Array:
    """(n_types, 2): sums of radial and angular components over the slots of all centers of a type."""
    radial, angular = rows[:, :, 0].sum(axis=1), rows[:, :, 1:].sum(axis=(1, 2))
    return np.stack([np.bincount(types, x, minlength=n_types + 1)[:-1] for x in (radial, angular)], axis=1)


def environment_statistics(rows: Moments, keep_mean: bool) -> tuple[Array, Array]:
    """Mean and deviation of environment rows, (n_types, 4) each, from moments (n_types, 2)."""
    deviation = np.where(rows.number > 0, np.maximum(rows.deviation, SMALLEST), ABSENT)
    mean = np.zeros((len(deviation), 4))
    mean[:, 0] = rows.mean[:, 0] if keep_mean else 0.0
    return mean, deviation[:, [0, 1, 1, 1]]


def parameter_statistics(moments: Moments, protection: float) -> tuple[Array, Array]:
    """Mean and inverse deviation of frame or atomic parameters, (k,) each."""
    return moments.mean, 1.0 / np.maximum(moments.deviation, protection)


def with_statistics(model: Model, settings: ModelSettings, sample: Statistics) -> Model:
    """``model`` with the statistics in it."""
    new = state(model)
    for name, block in settings.descriptor.block_settings.items():
        mean, deviation = environment_statistics(sample.rows[name], block.has_mean)
        path = f"descriptor.{block.statistics}"
        _put(new, {f"{path}.mean": mean, f"{path}.stddev": deviation})
    for name, moments in (("fparam", sample.fparam), ("aparam", sample.aparam)):
        if moments is not None and f"fitting.{name}_avg" in new:
            mean, inverse = parameter_statistics(moments, settings.data_stat_protect)
            _put(new, {f"fitting.{name}_avg": mean, f"fitting.{name}_inv_std": inverse})
    _put(new, {"out_bias": sample.bias, "out_std": sample.deviation})
    return Rebuilder(model)(new)


def _put(new: dict[str, Array], values: dict[str, Array]) -> None:
    """Set arrays in the precision and shape they have."""
    for path, value in values.items():
        new[path] = value.astype(new[path].dtype).reshape(new[path].shape)
