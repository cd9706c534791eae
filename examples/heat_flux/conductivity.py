"""Thermal conductivity of water by Green and Kubo: the integral of the heat flux' autocorrelation.

    python conductivity.py                    # four minutes on one free core; writes conductivity.png

Independent short trajectories, each from another frame of the validation data, give the error bars.  16 molecules and
a few picoseconds are little: flexible, classical molecules and a box of 8 angstrom make the number an example, not a
result.  More and longer trajectories of larger boxes narrow it.  Nothing else changes.
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


def start(number: int) -> Atoms:
    """A frame of the validation data, from the last: 16 molecules at 1 g/cm3, the coldest first."""
    data = WATER / "data" / "valid_16"
    types = np.loadtxt(data / "type.raw", dtype=int)
    positions = np.load(data / "set.000" / "coord.npy")[-1 - number].reshape(-1, 3)
    cell = np.load(data / "set.000" / "box.npy")[-1 - number].reshape(3, 3)
    return Atoms(np.where(types == 0, 8, 1), positions, cell=cell, pbc=True)


def trajectory(
    calculator: DPCalculator, number: int, equilibration: int, steps: int
) -> tuple[np.ndarray, float, float]:
    """Heat fluxes (k, 3) in eV angstrom/fs every ``EVERY`` steps of NVE, the mean temperature (K), the volume."""
    atoms = start(number)
    atoms.calc = calculator
    random = np.random.default_rng(number)
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


def autocorrelation(fluxes: np.ndarray, lags: int) -> np.ndarray:
    """(lags,) eV^2 angstrom^2/fs^2, a mean over x, y and z."""
    n = len(fluxes)
    return np.array([np.mean(fluxes[: n - k] * fluxes[k:]) for k in range(lags)])


def running_integral(correlation: np.ndarray, temperature: float, volume: float) -> np.ndarray:
    """(lags,) the conductivity, W/(m K), if the correlation is integrated to each lag."""
    integral = STEP * EVERY * (np.cumsum(correlation) - 0.5 * correlation - 0.5 * correlation[0])
    value = integral / (volume * units.kB * temperature**2)  # eV / (fs angstrom K)
    return value * 1.602176634e-19 / 1e-15 / 1e-10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--trajectories", type=int, default=8, help="2 to 16")
    parser.add_argument("--equilibration", type=int, default=300, help="steps of each at 300 K")
    parser.add_argument("--steps", type=int, default=1200, help="of each, without thermostat")
    parser.add_argument("--lag", type=float, default=200.0, help="fs: how far to integrate")
    parser.add_argument("--output", type=Path, default=HERE / "conductivity.png")
    options = parser.parse_args()
    lags = int(options.lag / (STEP * EVERY))
    if options.steps // EVERY < 2 * lags or not 2 <= options.trajectories <= 16:
        parser.error(f"{options.lag:g} fs need 2 to 16 trajectories of {2 * lags * EVERY} steps or more")
    calculator = DPCalculator(WATER / "water.dp", backend=options.backend)
    correlations, integrals, temperatures = [], [], []
    for number in range(options.trajectories):
        fluxes, temperature, volume = trajectory(calculator, number, options.equilibration, options.steps)
        correlations.append(autocorrelation(fluxes, lags))
        integrals.append(running_integral(correlations[-1], temperature, volume))
        temperatures.append(temperature)
        print(f"trajectory {number}: {temperature:.0f} K, {integrals[-1][-1]:.2f} W/(m K)", flush=True)
    every = np.array(integrals)
    error = every.std(axis=0, ddof=1) / np.sqrt(len(every))
    print(f"{len(every)} trajectories of {options.steps * STEP / 1000:g} ps at {np.mean(temperatures):.0f} K")
    print(f"{every.mean(axis=0)[-1]:.2f} +- {error[-1]:.2f} W/(m K), integrated to {options.lag:g} fs; measured: 0.61")
    draw(STEP * EVERY * np.arange(lags), np.array(correlations), every, options.output)
    print(f"wrote {options.output}")


def draw(times: np.ndarray, correlations: np.ndarray, integrals: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, curves in ((left, correlations / correlations[:, 0].mean()), (right, integrals)):
        mean, error = curves.mean(axis=0), curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
        axes.plot(times, mean, label=f"{len(curves)} trajectories")
        axes.fill_between(times, mean - error, mean + error, alpha=0.3, label="standard error")
        axes.axhline(0.0, color="0.8", linewidth=1, zorder=0)
    left.set(xlabel="time (fs)", ylabel="autocorrelation of the heat flux, relative")
    right.axhline(0.61, color="0.5", linestyle="--", label="measured, 300 K")
    right.set(xlabel="integrated to (fs)", ylabel="thermal conductivity (W/(m K))")
    right.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
