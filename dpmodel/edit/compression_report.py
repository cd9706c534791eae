"""The effect of compression on numbers and speed, measured on sample structures."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.structure import Structure
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.prediction import Prediction


@dataclass(frozen=True)
class Change:
    """Largest differences on the samples, and how many times faster the tables are."""

    energy: float  # eV/atom
    forces: float  # eV/angstrom
    virial: float  # eV/atom
    speed_up: float

    @property
    def acceptable(self) -> bool:
        """Whether the tables agree with the network: far better than any model is right."""
        return self.energy < 1e-6 and self.forces < 1e-4


def compare(plain: ModelFile, tabulated: ModelFile, engine: Engine, samples: Sequence[Structure]) -> Change:
    """Evaluate both on ``samples``, in turn."""
    runs = [Evaluator(file, engine) for file in (plain, tabulated)]
    predictions: list[list[Prediction]] = [[], []]
    times: list[list[float]] = [[], []]
    for repeat in range(4):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            predictions[i] = [p for part in run.evaluate(samples, Wants(), strict=False) for p in part]
            if repeat:  # the first call compiles and warms up
                times[i].append(time.perf_counter() - start)
    sizes = [len(s.types) for s in samples]
    return Change(
        energy=_largest([(a.energy - b.energy) / n for a, b, n in zip(*predictions, sizes, strict=True)]),
        forces=_largest([a.forces - b.forces for a, b in zip(*predictions, strict=True)]),
        virial=_largest([(a.virial - b.virial) / n for a, b, n in zip(*predictions, sizes, strict=True)]),
        speed_up=statistics.median(times[0]) / statistics.median(times[1]),
    )


def _largest(differences: list[np.ndarray]) -> float:
    """The largest absolute value; infinite if one is not a number."""
    largest = max(float(np.abs(d).max()) for d in differences)
    return largest if np.isfinite(largest) else np.inf
