"""Calibration of a model's uncertainty: a pass over data that it was trained on, one over data that it was not."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.systems import Frame
from dpmodel.errors import FileError, InputError
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.files import replacing
from dpmodel.io.metadata import RIGIDITY
from dpmodel.prediction import Prediction
from dpmodel.statistics.rigidity import Check, Rigidity, calibrated
from dpmodel.xp import Array

CHUNK = 256  # frames between two looks at the clock, and the most that are lost when a run is cut off


@dataclass(frozen=True)
class Calibration:
    """A model that knows its uncertainty, and the validation it was calibrated by."""

    file: ModelFile
    rigidity: Rigidity
    check: Check


@dataclass
class _Sums:
    """The sums over the data so far."""

    covariance: Array  # (d, d)
    features: Array  # (nf, d) of the validation
    residuals: Array  # (nf,)
    done: int  # frames, training and validation

    def save(self, path: Path, mark: str) -> None:
        with replacing(path) as file:
            np.savez(file, mark=mark, **vars(self))

    @classmethod
    def load(cls, path: Path, mark: str, d: int) -> "_Sums":
        """The sums that ``save`` wrote, if they belong to the run ``mark``; else nothing yet."""
        nothing = cls(np.zeros((d, d)), np.zeros((0, d)), np.zeros(0), 0)
        if not path.exists():
            return nothing
        try:
            with np.load(path, allow_pickle=False) as saved:
                if str(saved["mark"]) != mark or saved["covariance"].shape != (d, d):
                    return nothing
                return cls(saved["covariance"], saved["features"], saved["residuals"], int(saved["done"]))
        except (OSError, ValueError, KeyError) as error:
            raise FileError(f"{path}: expected what an earlier calibration left; remove it ({error})") from None


def calibrate(
    file: ModelFile,
    engine: Engine,
    training: Iterable[Frame],
    validation: Iterable[Frame],
    *,
    keep: str | os.PathLike[str] | None = None,
    mark: str = "",
    watch: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """``file`` with the rigidity of its last layer under ``training``, calibrated by the energies of ``validation``.

    ``keep`` is a file in which a run that was cut off finds what it did, if ``mark`` is the same; it is removed at the
    end.  ``watch`` is called with the number of frames done.  Raises InputError for other models and missing energies.
    """
    kind = file.settings.fitting_net.type
    if kind != "ener":
        raise InputError(f"uncertainty: expected an energy model, got a {kind} model")
    evaluator, d = Evaluator(file, engine), file.model.fitting.network.layers[-1].n_in
    path = None if keep is None else Path(keep)
    sums = _Sums(np.zeros((d, d)), np.zeros((0, d)), np.zeros(0), 0) if path is None else _Sums.load(path, mark, d)
    n_before = 0
    for frames, counted in ((training, False), (validation, True)):
        for chunk in _chunks(frames, CHUNK):
            n_before += len(chunk)
            if n_before <= sums.done:
                continue
            f = _per_atom(evaluator, chunk)
            if counted:
                sums.features = np.concatenate([sums.features, f])
                energies = evaluator.evaluate([frame.structure for frame in chunk], Wants(forces=False), strict=False)
                sums.residuals = np.concatenate([sums.residuals, residuals(chain.from_iterable(energies), chunk)])
            else:
                sums.covariance = sums.covariance + f.T @ f
            sums.done = n_before
            watch(sums.done)
            if path is not None:
                sums.save(path, mark)
    rigidity = calibrated(sums.covariance, sums.features, sums.residuals)
    if path is not None:
        path.unlink(missing_ok=True)
    changed = replace(file, extras=file.extras | {RIGIDITY: rigidity.entry()})
    return Calibration(changed, rigidity, Check(sums.residuals, rigidity.deviation(sums.features)))


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _per_atom(evaluator: Evaluator, frames: Sequence[Frame]) -> Array:
    """(nf, d) the last layers of frames, an average over their atoms."""
    layers = evaluator.describe([frame.structure for frame in frames], strict=False, layer="features")
    silent = evaluator.file.settings.atom_exclude_types
    counted = [~np.isin(frame.structure.types, silent)[:, None] for frame in frames]
    sums = [(layer * mask).sum(axis=0) for layer, mask in zip(layers, counted, strict=True)]
    return np.stack([f / n_atoms(frame) for f, frame in zip(sums, frames, strict=True)])


def residuals(predictions: Iterable[Prediction], frames: Sequence[Frame]) -> Array:
    """(nf,) errors of energies, eV per atom."""
    errors = [float(p.energy[0]) - float(f.labels["energy"]) for p, f in zip(predictions, frames, strict=True)]
    return np.array(errors) / [n_atoms(frame) for frame in frames]


def n_atoms(frame: Frame) -> int:
    """The number of real atoms, at least 1."""
    return max(1, int(np.sum(frame.structure.types >= 0)))
