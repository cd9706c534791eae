"""Thermal conductivity of water by Green and Kubo: the integral of the heat flux' autocorrelation.

    python conductivity.py                    # five minutes on two cores; writes conductivity.png

16 molecules and 3 ps are few: the error bars, from independent stretches of the trajectory, say how few.  More steps,
larger boxes and more trajectories narrow them.  Nothing else changes.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from dpmodel.engines.ase import DPCalculator

HERE = Path(__file__).parent
WATER = HERE.parent / "water"
STEP, EVERY = 0.5, 4  # fs, and steps between two heat fluxes
TEMPERATURE = 300.0  # K


def start() -> Atoms:
    """A frame of the validation data: 16 molecules at their density."""
    data = WATER / "data" / "valid_16"
    types = np.loadtxt(data / "type.raw", dtype=int)
    positions = np.load(data / "set.000" / "coord.npy")[0].reshape(-1, 3)
    cell = np.load(data / "set.000" / "box.npy")[0].reshape(3, 3)
    return Atoms(np.where(types == 0, 8, 1), positions, cell=cell, pbc=True)


def trajectory(backend: str, equilibration: int, steps: int) -> tuple[np.ndarray, float, float]:
    """Heat fluxes (k, 3) in eV angstrom/fs every ``EVERY`` steps of NVE, the mean temperature (K), the volume."""
    atoms = start()
    atoms.calc = calculator = DPCalculator(WATER / "water.dp", backend=backend)
    random = np.random.default_rng(0)
    deviation = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)
    atoms.set_momenta(deviation[:, None] * random.normal(size=(len(atoms), 3)))
    bath = {"temperature_K": TEMPERATURE, "friction": 0.02 / units.fs, "fixcm": False, "rng": random}
    Langevin(atoms, STEP * units.fs, **bath).run(equilibration)
    Stationary(atoms)
    # The zero of the atomic energies is free, and far from them it would drown the signal: in a molecular liquid
    # the sum of the velocities of one element is bounded, so that it adds noise but nothing to the integral.
    numbers, energies = atoms.numbers, atoms.get_potential_energies()
    zero = np.array([energies[numbers == z].mean() for z in numbers])
    mover, fluxes, temperatures = VelocityVerlet(atoms, STEP * units.fs), [], []
    for _ in range(steps // EVERY):
        mover.run(EVERY)
        speeds = atoms.get_velocities() * units.fs
        fluxes.append(calculator.heat_flux(atoms).total[0] - zero @ speeds)
        temperatures.append(atoms.get_temperature())
    return np.array(fluxes), float(np.mean(temperatures)), atoms.get_volume()


def running_integral(fluxes: np.ndarray, lags: int, temperature: float, volume: float) -> np.ndarray:
    """(lags,) the conductivity, W/(m K), if the correlation is integrated to each lag; a mean over x, y and z."""
    n = len(fluxes)
    correlation = [np.mean(fluxes[: n - k] * fluxes[k:]) for k in range(lags)]
    dt = STEP * EVERY
    integral = dt * (np.cumsum(correlation) - 0.5 * np.array(correlation) - 0.5 * correlation[0])
    value = integral / (volume * units.kB * temperature**2)  # eV / (fs angstrom K)
    return value * 1.602176634e-19 / 1e-15 / 1e-10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--equilibration", type=int, default=1000, help="steps")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--lag", type=float, default=300.0, help="fs: how far to integrate")
    parser.add_argument("--blocks", type=int, default=8, help="stretches that the error is taken from")
    parser.add_argument("--output", type=Path, default=HERE / "conductivity.png")
    options = parser.parse_args()
    fluxes, temperature, volume = trajectory(options.backend, options.equilibration, options.steps)
    lags = int(options.lag / (STEP * EVERY))
    parts = [part for part in np.array_split(fluxes, options.blocks) if len(part) >= lags]
    if len(parts) < 2:
        parser.error(f"{options.steps} steps hold no two stretches longer than {options.lag:g} fs")
    curves = np.array([running_integral(part, lags, temperature, volume) for part in parts])
    mean, error = curves.mean(axis=0), curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    print(f"{len(fluxes) * STEP * EVERY / 1000:g} ps at {temperature:.0f} K, {len(parts)} stretches")
    print(f"conductivity {mean[-1]:.2f} +- {error[-1]:.2f} W/(m K), integrated to {options.lag:g} fs; measured: 0.61")
    draw(STEP * EVERY * np.arange(lags), mean, error, options.output)
    print(f"wrote {options.output}")


def draw(times: np.ndarray, mean: np.ndarray, error: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(times, mean, label="16 molecules")
    axes.fill_between(times, mean - error, mean + error, alpha=0.3, label="standard error")
    axes.axhline(0.61, color="0.5", linestyle="--", label="measured, 300 K")
    axes.set(xlabel="integrated to (fs)", ylabel="thermal conductivity (W/(m K))")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
