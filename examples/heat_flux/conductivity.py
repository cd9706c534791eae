"""Thermal conductivity of water by Green and Kubo: the integral of the heat flux' autocorrelation.

    python conductivity.py                    # under five minutes on one core; writes conductivity.png

Independent short trajectories, each from another frame of the validation data, advance together and give the error
bars.  16 molecules and a few picoseconds are little: flexible, classical molecules and a box of 8 angstrom make the
number an example, not a result.  More and longer trajectories of larger boxes narrow it.  Nothing else changes.
"""

import argparse
from pathlib import Path

import numpy as np

from dpmodel import Potential, load

HERE = Path(__file__).parent
WATER = HERE.parent / "water"
STEP, EVERY = 0.5, 5  # fs, and steps between two heat fluxes
TEMPERATURE, FRICTION = 300.0, 0.02  # K, 1/fs
MASSES = np.array([15.999, 1.008])  # g/mol
KINETIC, BOLTZMANN = 103.6426965, 8.617333262e-5  # eV in a g/mol (angstrom/fs)^2; eV/K
SI = 1.602176634e-19 / 1e-15 / 1e-10  # W/(m K) in an eV/(fs angstrom K)


class Trajectories:
    """Boxes of water that move together: positions (nf, n, 3) in angstrom, velocities in angstrom/fs."""

    def __init__(self, potential: Potential, count: int) -> None:
        """The last frames of the validation data: 16 molecules each at 1 g/cm3, the coldest first."""
        data = WATER / "data" / "valid_16"
        self.potential, self.random = potential, np.random.default_rng(0)
        self.types = np.loadtxt(data / "type.raw", dtype=int)
        self.x = np.load(data / "set.000" / "coord.npy")[-count:].reshape(count, -1, 3).astype(float)
        self.cell = np.load(data / "set.000" / "box.npy")[-count:].reshape(count, 3, 3).astype(float)
        self.m = KINETIC * MASSES[self.types][:, None]
        self.v = self.thermal()
        self.f = self.potential.evaluate(self.x, self.types, self.cell).forces

    def thermal(self) -> np.ndarray:
        """Velocities of a bath."""
        return self.random.normal(size=self.x.shape) * np.sqrt(BOLTZMANN * TEMPERATURE / self.m)

    def step(self, bath: bool = False) -> None:
        """Velocity Verlet; with the bath, friction and noise after it."""
        self.v = self.v + 0.5 * STEP * self.f / self.m
        self.x = self.x + STEP * self.v
        self.f = self.potential.evaluate(self.x, self.types, self.cell).forces
        self.v = self.v + 0.5 * STEP * self.f / self.m
        if bath:
            stays = np.exp(-FRICTION * STEP)
            self.v = stays * self.v + np.sqrt(1 - stays**2) * self.thermal()

    def temperature(self) -> np.ndarray:
        """(nf,) K; the momentum of a box is zero."""
        degrees = 3 * (len(self.types) - 1)
        return (self.m * self.v**2).sum(axis=(1, 2)) / (degrees * BOLTZMANN)

    def sample(self, equilibration: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Heat fluxes (k, nf, 3) in eV angstrom/fs along NVE, and the mean temperatures (nf,)."""
        for _ in range(equilibration):
            self.step(bath=True)
        self.v = self.v - (self.m * self.v).sum(axis=1, keepdims=True) / self.m.sum()
        # The zero of the atomic energies is free, and far from them it would drown the signal: in a molecular liquid
        # the sum of the velocities of one element is bounded, so that it adds noise but nothing to the integral.
        energy = self.potential.evaluate(self.x, self.types, self.cell, forces=False).atom_energy
        zero = np.array([energy[:, self.types == t].mean() for t in range(2)])[self.types]
        fluxes, temperatures = [], []
        for _ in range(steps // EVERY):
            for _ in range(EVERY):
                self.step()
            flux = self.potential.heat_flux(self.x, self.types, self.cell, self.v, masses=MASSES).total
            fluxes.append(flux - np.einsum("a,fak->fk", zero, self.v))
            temperatures.append(self.temperature())
        return np.array(fluxes), np.mean(temperatures, axis=0)


def autocorrelation(fluxes: np.ndarray, lags: int) -> np.ndarray:
    """(nf, lags) eV^2 angstrom^2/fs^2, a mean over x, y and z."""
    n = len(fluxes)
    return np.stack([(fluxes[: n - k] * fluxes[k:]).mean(axis=(0, 2)) for k in range(lags)], axis=1)


def running_integral(correlation: np.ndarray, temperature: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """(nf, lags) the conductivities, W/(m K), if the correlation is integrated to each lag."""
    integral = STEP * EVERY * (np.cumsum(correlation, axis=1) - 0.5 * correlation - 0.5 * correlation[:, :1])
    return SI * integral / (BOLTZMANN * volume * temperature**2)[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--trajectories", type=int, default=6, help="2 to 16")
    parser.add_argument("--equilibration", type=int, default=200, help="steps at 300 K")
    parser.add_argument("--steps", type=int, default=900, help="without thermostat")
    parser.add_argument("--lag", type=float, default=150.0, help="fs: how far to integrate")
    parser.add_argument("--output", type=Path, default=HERE / "conductivity.png")
    options = parser.parse_args()
    lags = int(options.lag / (STEP * EVERY))
    if options.steps // EVERY < 2 * lags or not 2 <= options.trajectories <= 16:
        parser.error(f"{options.lag:g} fs need 2 to 16 trajectories of {2 * lags * EVERY} steps or more")
    boxes = Trajectories(load(WATER / "water.dp", options.backend), options.trajectories)
    fluxes, temperatures = boxes.sample(options.equilibration, options.steps)
    correlations = autocorrelation(fluxes, lags)
    every = running_integral(correlations, temperatures, np.abs(np.linalg.det(boxes.cell)))
    for k, (temperature, integral) in enumerate(zip(temperatures, every, strict=True)):
        print(f"trajectory {k}: {temperature:.0f} K, {integral[-1]:.2f} W/(m K)")
    mean, error = every[:, -1].mean(), every[:, -1].std(ddof=1) / np.sqrt(len(every))
    print(f"{mean:.2f} +- {error:.2f} W/(m K), integrated to {options.lag:g} fs; measured: 0.61")
    draw(STEP * EVERY * np.arange(lags), correlations, every, options.output)
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
