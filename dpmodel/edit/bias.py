"""The output bias of each type of atom: fitted to data, or as the user says (specification/training.md 7.5)."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.errors import FileError, InputError
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import without_rigidity
from dpmodel.prediction import Prediction
from dpmodel.statistics.output import OutputSample, fixed_output, output_sample, output_statistics


def with_fitted_bias(file: ModelFile, frames: Iterable[Frame], engine: Engine) -> ModelFile:
    """``file`` with what its predictions lack, by least squares, added to its output bias.

    Fixed biases are as the settings say; frames without labels do not count.
    """
    settings, name = file.settings, file.settings.fitting_net.output
    labeled = [frame for frame in frames if {name, f"atom_{name}"} & frame.labels.keys()]
    if not labeled:
        return file
    parts = Evaluator(file, engine).evaluate([f.structure for f in labeled], Wants(forces=False), strict=False)
    predictions = [prediction for part in parts for prediction in part]
    missing = [_missing(output_sample(f, settings), p, name) for f, p in zip(labeled, predictions, strict=True)]
    old, fixed = file.model.out_bias, fixed_output(settings)
    less = [None if value is None else value - old[t] for t, value in enumerate(fixed)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a deviation, which stays
        new = old + output_statistics(missing, settings, less)[0]
    for t, value in enumerate(fixed):
        new[t] = new[t] if value is None else value
    return replace(file, model=replace(file.model, out_bias=new))


def _missing(label: OutputSample, p: Prediction, name: str) -> OutputSample:
    """The difference of the labels of a frame and the prediction."""
    outputs = {name: p.energy, f"atom_{name}": p.atom_energy} if p.energy is not None else p.outputs
    frame, atoms = np.reshape(outputs[name], -1), np.reshape(outputs[f"atom_{name}"], (len(label.types), -1))
    return OutputSample(
        label.types,
        None if label.frame is None else label.frame - frame,
        None if label.atoms is None else label.atoms - atoms,
    )


def with_bias(file: ModelFile, energies: Mapping[str, float]) -> ModelFile:
    """``file`` with these output biases, eV an atom by the name of its type; the others stay.  Raises InputError."""
    type_map, bias = file.settings.type_map, file.model.out_bias.copy()
    for name, energy in energies.items():
        if name not in type_map or not np.isfinite(energy):
            raise InputError(f"bias: expected a finite energy for one of {', '.join(type_map)}, got {name}={energy}")
        bias[type_map.index(name)] = energy
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
    if kind == "dipole" or (energies and kind != "ener"):
        raise InputError(f"bias: expected an energy model, got a {kind} model")
    if bool(energies) == bool(systems):
        raise InputError("bias: expected either energies of types (--value), or systems to fit them to (--system)")
    file = replace(file, extras=without_rigidity(file.extras))
    return with_bias(file, energies) if energies else with_fitted_bias(file, labeled(systems, file), engine)


def labeled(paths: Sequence[str | os.PathLike[str]], file: ModelFile) -> list[Frame]:
    """The frames with labels of all systems in and below ``paths``; FileError if there are none."""
    name = file.settings.fitting_net.output
    names = {name, f"atom_{name}"}
    systems = [System(path, file.settings, names) for path in find_systems([os.fspath(path) for path in paths])]
    frames = [frame for system in systems for frame in system if names & frame.labels.keys()]
    if not frames:
        words = "energies" if name == "energy" else f"{name} or atom_{name}"
        raise FileError(f"{', '.join(map(str, paths))}: expected frames with {words} to fit the bias to, found none")
    return frames
