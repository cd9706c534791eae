"""The output bias, which each atom of a type has in any case, from labels of frames and of atoms
(specification/training.md 7.5, heads_training.md 4)."""

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dpmodel.data.systems import Frame
from dpmodel.model.build import output_width
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array

SPREAD = 1e-10  # of a property, relative to its size: less is none


class OutputSample(NamedTuple):
    """The types of a frame's atoms, (n,), its label (k,) and those of its atoms (n, k), None where there are none."""

    types: Array
    frame: Array | None
    atoms: Array | None


def output_sample(frame: Frame, settings: ModelSettings) -> OutputSample:
    """The labels of ``frame`` that the head predicts."""
    name, types = settings.fitting_net.output, frame.structure.types
    label, atoms = frame.labels.get(name), frame.labels.get(f"atom_{name}")
    return OutputSample(
        types,
        None if label is None else np.reshape(label, -1),
        None if atoms is None else np.reshape(atoms, (len(types), -1)),
    )


def output_statistics(
    samples: Iterable[OutputSample], settings: ModelSettings, fixed: Sequence[Array | None] | None = None
) -> tuple[Array, Array]:
    """Bias and deviation of each type, (n_types, k) each; zeros and ones where no label says.

    By least squares from labels of frames; labels of atoms take precedence.  ``fixed`` biases, (k,) or None for each
    type; those of the settings by default.
    """
    fitting, n_types, listed = settings.fitting_net, settings.n_types, list(samples)
    fixed = fixed_output(settings) if fixed is None else fixed
    shape = n_types, output_width(fitting)
    bias, deviation = np.zeros(shape), np.ones(shape)
    if fitting.type == "dipole":  # a vector has no mean that would turn with the structure
        return bias, deviation
    labeled = [(s.types[s.types >= 0], s.frame) for s in listed if s.frame is not None]
    values = np.array([label for _, label in labeled])
    for t, value in enumerate(fixed):
        bias[t] = bias[t] if value is None else value
    if labeled:
        counts = np.array([np.bincount(types, minlength=n_types) for types, _ in labeled], dtype=np.float64)
        counts[:, list(settings.atom_exclude_types)] = 0.0
        sizes = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        intensive = getattr(fitting, "intensive", False)
        if getattr(fitting, "distinguish_types", True):
            bias, spread = output_bias(counts / sizes if intensive else counts, values, fixed, fitting.rcond)
        else:
            each = values if intensive else values / sizes
            bias, spread = np.tile(each.mean(axis=0), (n_types, 1)), each.std(axis=0)
        deviation = np.tile(spread, (n_types, 1))
    _of_atoms([s for s in listed if s.atoms is not None], bias, deviation)
    return bias, _some(deviation, values, fitting.output) if fitting.type == "property" else deviation


def output_bias(
    counts: Array, values: Array, fixed: Sequence[Array | None], rcond: float | None = None
) -> tuple[Array, Array]:
    """Bias of each type (n_types, k) by least squares, and the deviation (k,) of what it leaves.

    ``counts`` (nf, n_types) atoms of each frame, ``values`` (nf, k) of the frame; a type may have a ``fixed`` bias.
    Types that the frames do not tell apart share (minimum norm).
    """
    own = [t for t, value in enumerate(fixed) if value is not None]
    preset = np.stack([np.zeros(values.shape[1]) if value is None else value for value in fixed])
    free = counts.copy()
    free[:, own] = 0.0
    bias = np.linalg.lstsq(free, values - counts @ preset, rcond=rcond)[0]
    bias[own] = preset[own]
    return bias, np.std(values - counts @ bias, axis=0)


def fixed_output(settings: ModelSettings) -> list[Array | None]:
    """The fixed bias of each type, (k,), None where it is fitted."""
    presets = (settings.preset_out_bias or {}).get(settings.fitting_net.output) or (None,) * settings.n_types
    return [None if value is None else np.ravel(np.asarray(value, dtype=np.float64)) for value in presets]


def _of_atoms(samples: Sequence[OutputSample], bias: Array, deviation: Array) -> None:
    """Put in mean and deviation of the types that ``samples`` have labels of."""
    if samples:
        types = np.concatenate([s.types for s in samples])
        values = np.concatenate([s.atoms for s in samples if s.atoms is not None])
        for t in range(len(bias)):
            of_type = values[types == t]
            if len(of_type):
                bias[t], deviation[t] = of_type.mean(axis=0), of_type.std(axis=0)


def _some(deviation: Array, values: Array, name: str) -> Array:
    """``deviation``, by which a network's output is multiplied, 1 where the ``values`` (nf, k) have none."""
    flat = deviation <= SPREAD * np.max(np.abs(values), axis=0, initial=0.0)
    if flat.any():
        warnings.warn(f"all frames have the same {name}, or composition explains it: it is not scaled", stacklevel=2)
    return np.where(flat, 1.0, deviation)
