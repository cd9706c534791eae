"""The price of single precision on a user's structures: errors, drift of a trajectory, speed, and if that is enough."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpmodel.data.structure import Structure
from dpmodel.evaluator import KINETIC
from dpmodel.potential import Potential
from dpmodel.xp import Array

BOLTZMANN = 8.617333262e-5  # eV/K
TEMPERATURE = 300.0  # K
STEP = 0.5  # fs
CALLS = 5  # whose median is the time

# What a use asks for.  Relaxations stop at forces of 0.01 eV/angstrom or so, and need a tenth of that to be right.
# Phonons move atoms by 0.01 angstrom: forces must be right to 1e-4 of some eV/angstrom for constants right to 1e-3.
# A trajectory should drift no more than if it were in double precision, plus 1 meV an atom in 100 ps.
BOUNDS = {"relaxation": 1e-3, "molecular dynamics": 1e-5, "phonons": 1e-5}
RULES = {
    "relaxation": f"if forces are right to {BOUNDS['relaxation']:g} eV/Å",
    "molecular dynamics": f"if so, and the drift is within {BOUNDS['molecular dynamics']:g} eV/atom/ps of float64's",
    "phonons": f"if forces are right to {BOUNDS['phonons']:g} eV/Å",
}
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "virial": "eV/atom"}
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class PrecisionReport:
    """Float32 beside float64."""

    errors: Mapping[str, float]  # largest: "energy" eV per atom, "forces" eV/angstrom, "virial" eV per atom
    scales: Mapping[str, float]  # the largest numbers themselves
    drifts: Mapping[str, float]  # of the total energy by precision, eV per atom and ps
    seconds: Mapping[str, float]  # an evaluation of all structures, by precision
    steps: int

    def to_json(self) -> str:
        """All numbers, and the verdict."""
        return json.dumps(asdict(self) | {"verdict": self.verdict, "bounds": BOUNDS}, indent=2)

    def __rich__(self) -> RenderableType:
        errors = Table(box=None, header_style="bold")
        for name in ("float32", "largest error", "of"):
            errors.add_column(name, justify="right" if name != "float32" else "left")
        for name, unit in UNITS.items():
            errors.add_row(name, f"{self.errors[name]:.1e} {unit}", f"{self.scales[name]:.3g}")
        ways = Table(box=None, header_style="bold")
        for name in ("", "float64", "float32"):
            ways.add_column(name, justify="right")
        ways.add_row(f"drift in {self.steps} steps, eV/atom/ps", *(f"{self.drifts[p]:.1e}" for p in PRECISIONS))
        ways.add_row("evaluation, ms", *(f"{1e3 * self.seconds[p]:.1f}" for p in PRECISIONS))
        ways.add_row("times as fast", "1", f"{self.seconds['float64'] / self.seconds['float32']:.2f}")
        lines = [
            Text(f"{use}: {'float32 will do' if good else 'use float64'} ({RULES[use]})")
            for use, good in self.verdict.items()
        ]
        return Group(errors, "", ways, "", *lines)

    @property
    def verdict(self) -> dict[str, bool]:
        """Whether float32 will do, by ``BOUNDS``."""
        force = self.errors["forces"]
        excess = abs(self.drifts["float32"] - self.drifts["float64"])
        return {
            "relaxation": force <= BOUNDS["relaxation"],
            "molecular dynamics": excess <= BOUNDS["molecular dynamics"] and force <= BOUNDS["relaxation"],
            "phonons": force <= BOUNDS["phonons"],
        }


def compare_precision(
    double: Potential, single: Potential, frames: Sequence[Structure], masses: Array, steps: int = 200
) -> PrecisionReport:
    """One model in both precisions on ``frames``, and along a short NVE trajectory from the first of them.

    ``masses`` (n_types,) g/mol.  Atoms start with velocities of 300 K, the same for both.
    """
    results, seconds = {}, {}
    for name, potential in (("float64", double), ("float32", single)):
        times = []
        for _ in range(1 + CALLS):
            start = time.perf_counter()
            results[name] = potential.evaluate_many(frames)
            times.append(time.perf_counter() - start)
        seconds[name] = float(np.median(times[1:]))
    errors, scales = dict[str, float](), dict[str, float]()
    for i, frame in enumerate(frames):
        right, rough, n = results["float64"][i], results["float32"][i], len(frame.types)
        for name, values in (
            ("energy", (right.energy / n, rough.energy / n)),
            ("forces", (right.forces, rough.forces)),
            ("virial", (right.virial / n, rough.virial / n)),
        ):
            errors[name] = max(errors.get(name, 0.0), float(np.abs(values[1] - values[0]).max()))
            scales[name] = max(scales.get(name, 0.0), float(np.abs(values[0]).max()))
    drifts = {name: drift(p, frames[0], masses, steps) for name, p in (("float64", double), ("float32", single))}
    return PrecisionReport(errors, scales, drifts, seconds, steps)


def drift(potential: Potential, frame: Structure, masses: Array, steps: int) -> float:
    """The slope of the total energy along a trajectory of velocity Verlet, eV per atom and ps."""
    m = np.append(masses, 1.0)[frame.types][:, None] * KINETIC
    v = np.random.default_rng(0).normal(size=frame.positions.shape) * np.sqrt(BOLTZMANN * TEMPERATURE / m)
    v = np.where(frame.types[:, None] < 0, 0.0, v - np.sum(m * v, axis=0) / np.sum(m))
    x, totals = frame.positions, []
    p = potential.evaluate_many([frame])[0]
    for _ in range(steps):
        v = v + 0.5 * STEP * p.forces[0] / m
        x = x + STEP * v
        p = potential.evaluate_many([replace(frame, positions=x)])[0]
        v = v + 0.5 * STEP * p.forces[0] / m
        totals.append(float(p.energy[0]) + 0.5 * float(np.sum(m * v**2)))
    times = 1e-3 * STEP * np.arange(steps)
    return float(np.polyfit(times, totals, 1)[0]) / len(frame.types)
