"""The energy that each atom of a type has in any case: fitted to data, or given (specification/training.md 7.5)."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.errors import FileError, InputError
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array


def output_bias(
    counts: Array,
    values: Array,
    *,
    excluded: Sequence[int] = (),
    preset: Sequence[float | None] | None = None,
    rcond: float | None = None,
) -> tuple[Array, float]:
    """Bias of each type (n_types,) by least squares, and the deviation of what it leaves.

    ``counts`` (nf, n_types) atoms of each frame, ``values`` (nf,) its energy.  ``excluded`` types contribute nothing;
    those with a ``preset`` keep it.  Types that the frames do not tell apart share (minimum norm).
    """
    a = counts.astype(np.float64)
    a[:, list(excluded)] = 0.0
    fixed = {t: float(value) for t, value in enumerate(preset or ()) if value is not None}
    known = np.zeros(a.shape[1])
    known[list(fixed)] = list(fixed.values())
    free = a.copy()
    free[:, list(fixed)] = 0.0
    bias = np.linalg.lstsq(free, values - a @ known, rcond=rcond)[0]
    bias[list(fixed)] = list(fixed.values())
    return bias, float(np.std(values - a @ bias))


def with_fitted_bias(file: ModelFile, frames: Iterable[Frame], engine: Engine) -> ModelFile:
    """``file`` with what its energies lack, by least squares, added to its output bias.

    Fixed biases are as the settings say; frames without energy do not count.
    """
    labeled = [frame for frame in frames if "energy" in frame.labels]
    if not labeled:
        return file
    structures = [frame.structure for frame in labeled]
    found = Evaluator(file, engine).evaluate(structures, Wants(forces=False), strict=False)
    energies = [float(prediction.energy[0]) for part in found for prediction in part]
    given = [float(frame.labels["energy"]) for frame in labeled]
    n_types, settings, old = file.model.n_types, file.settings, file.model.out_bias
    fixed = fixed_energies(settings)
    bias, _ = output_bias(
        np.array([np.bincount(s.types[s.types >= 0], minlength=n_types) for s in structures]),
        np.subtract(given, energies),
        excluded=settings.atom_exclude_types,
        preset=[None if value is None else value - old[t, 0] for t, value in enumerate(fixed)],
        rcond=settings.fitting_net.rcond,
    )
    new = old + bias[:, None]
    for t, value in enumerate(fixed):
        new[t] = new[t] if value is None else value
    return replace(file, model=replace(file.model, out_bias=new))


def fixed_energies(settings: ModelSettings) -> list[float | None]:
    """The fixed bias of each type, None where it is fitted."""
    given = (settings.preset_out_bias or {}).get("energy") or (None,) * settings.n_types
    return [value[0] if isinstance(value, tuple) else value for value in given]


def with_bias(file: ModelFile, energies: Mapping[str, float]) -> ModelFile:
    """``file`` with these output biases, eV an atom by the name of its type; the others stay.  Raises InputError."""
    known, bias = file.settings.type_map, file.model.out_bias.copy()
    for name, energy in energies.items():
        if name not in known or not np.isfinite(energy):
            raise InputError(f"bias: expected a finite energy for one of {', '.join(known)}, got {name}={energy}")
        bias[known.index(name)] = energy
    return replace(file, model=replace(file.model, out_bias=bias))


def change_bias(
    file: ModelFile,
    engine: Engine,
    *,
    energies: Mapping[str, float] | None = None,
    systems: Sequence[str | os.PathLike[str]] = (),
) -> ModelFile:
    """``file`` with the output bias that ``energies`` give, or that makes up for its mean errors on ``systems``."""
    kind = file.settings.fitting_net.type
    if kind != "ener":
        raise InputError(f"bias: expected an energy model, got a {kind} model")
    if bool(energies) == bool(systems):
        raise InputError("bias: expected either energies of types (--value), or systems to fit them to (--system)")
    return with_bias(file, energies) if energies else with_fitted_bias(file, labeled(systems, file), engine)


def labeled(paths: Sequence[str | os.PathLike[str]], file: ModelFile) -> list[Frame]:
    """The frames with energies of all systems in and below ``paths``; FileError if there are none."""
    systems = [System(path, file.settings, ("energy",)) for path in find_systems([os.fspath(path) for path in paths])]
    frames = [frame for system in systems for frame in system if "energy" in frame.labels]
    if not frames:
        raise FileError(f"{', '.join(map(str, paths))}: expected frames with energies to fit the bias to, found none")
    return frames
