"""How well one model's uncertainty ranks its errors, beside the spread of an ensemble of four.

    python compare.py                 # half an hour on one core, most of it training; writes comparison.png

Four small models of water are trained from four seeds.  The first is calibrated (dpmodel calibrate) with half of the
held-out frames; its errors are those on the other half and on far.xyz: hot and dense liquid, ice, vapor.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from scipy.stats import spearmanr

from dpmodel import load
from dpmodel.data.structure import Structure
from dpmodel.data.systems import Frame, System
from dpmodel.edit.uncertainty import calibrate
from dpmodel.potential import Potential
from dpmodel.statistics.rigidity import Check

HERE = Path(__file__).parent
WATER = HERE.parent / "water"
TRAINING, VALIDATION = ("train_16", "train_32"), ("valid_16", "valid_32")
Sets = dict[str, list[Frame]]


def train(folder: Path, steps: int) -> list[Path]:
    """Four models of the input of ../water, which differ in their seed."""
    paths = []
    for seed in (1, 2, 3, 4):
        path = folder / f"m{seed}" / "model.dp"
        paths.append(path)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        script = json.loads((WATER / "input.json").read_text())
        script["training"] |= {"numb_steps": steps, "seed": seed}
        for name in ("training_data", "validation_data"):
            systems = script["training"][name]["systems"]
            script["training"][name]["systems"] = [str((WATER / system).resolve()) for system in systems]
        (path.parent / "input.json").write_text(json.dumps(script))
        dpmodel = [sys.executable, "-m", "dpmodel"]
        subprocess.run([*dpmodel, "train", "input.json"], cwd=path.parent, check=True)
        subprocess.run([*dpmodel, "convert", "model.ckpt.pt", "model.dp"], cwd=path.parent, check=True)
    return paths


def frames_of(potential: Potential) -> tuple[list[Frame], list[Frame], Sets]:
    """Training frames, those for the calibration, and named sets of others."""

    def frames(names: tuple[str, ...]) -> list[Frame]:
        systems = [System(str(WATER / "data" / name), potential.settings, ("energy",)) for name in names]
        return [frame for system in systems for frame in system]

    valid = frames(VALIDATION)
    others: Sets = {"held out": valid[1::2]}
    for atoms in ase.io.read(HERE / "far.xyz", index=":"):
        energy = {"energy": np.asarray(atoms.get_potential_energy())}
        others.setdefault(atoms.info["kind"], []).append(Frame(potential.structure(atoms), energy))
    return frames(TRAINING), valid[::2], others


def energies(potential: Potential, frames: list[Frame], uncertainty: bool = False) -> tuple[Any, Any]:
    """(nf,) errors and uncertainties of energies, eV per atom."""
    structures: list[Structure] = [frame.structure for frame in frames]
    sizes = np.array([len(s.types) for s in structures])
    every = potential.evaluate_many(structures, forces=False, uncertainty=uncertainty)
    errors = np.array([p.energy[0] - float(f.labels["energy"]) for p, f in zip(every, frames, strict=True)]) / sizes
    return errors, np.array([p.energy_uncertainty[0] for p in every]) / sizes if uncertainty else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the four models")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--output", type=Path, default=HERE / "comparison.png")
    options = parser.parse_args()
    potentials = [load(path, options.backend) for path in train(options.models, options.steps)]
    training, calibration, others = frames_of(potentials[0])
    known = calibrate(potentials[0].file, potentials[0].engine, training, calibration)
    print(f"calibration: {known.check.sentence}")
    first = Potential(known.file, potentials[0].engine)
    scale = ensemble_scale(potentials, calibration)
    results: dict[str, tuple[Any, Any, Any]] = {}
    print(
        f"{'':10}{'frames':>8}{'rmse':>8}{'one model':>11}{'four':>8}   meV/atom; within 68 and 95 %, one model | four"
    )
    for name, frames in others.items():
        error, sigma = energies(first, frames, uncertainty=True)
        spread = scale * np.std([energies(p, frames)[0] for p in potentials], axis=0, ddof=1)
        results[name] = error, sigma, spread
        within = [Check(error, s).shares(np.array([0.68, 0.95])) for s in (sigma, spread)]
        columns = [1000 * np.sqrt(np.mean(x**2)) for x in (error, sigma, spread)]
        shares = " | ".join(f"{a:.0%} {b:.0%}" for a, b in within)
        print(f"{name:10}{len(frames):8}{columns[0]:8.2f}{columns[1]:11.2f}{columns[2]:8.2f}   {shares}")
    for where, names in (("held out", ["held out"]), ("far", list(results)[1:]), ("all", list(results))):
        error, sigma, spread = (np.concatenate([results[n][k] for n in names]) for k in range(3))
        rank = [spearmanr(s, np.abs(error)).statistic for s in (sigma, spread)]
        print(f"rank correlation with the error, {where}: one model {rank[0]:.2f}, ensemble of four {rank[1]:.2f}")
    draw(results, options.output)
    print(f"wrote {options.output}")


def ensemble_scale(potentials: list[Potential], frames: list[Frame]) -> float:
    """What makes the spread of the models the likeliest deviation of the first one's errors."""
    every = np.array([energies(p, frames)[0] for p in potentials])
    return float(np.sqrt(np.mean((every[0] / every.std(axis=0, ddof=1)) ** 2)))


def draw(results: dict[str, tuple[Any, Any, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for k, title in ((1, "one model"), (2, "ensemble of four")):
        axes = panels[k - 1]
        for name, values in results.items():
            axes.plot(1000 * values[k], 1000 * np.abs(values[0]), ".", label=name)
        ends = 1000 * np.array([min(v[k].min() for v in results.values()), max(v[k].max() for v in results.values())])
        axes.plot(ends, ends, color="0.6", linewidth=1)
        axes.set(xscale="log", yscale="log", title=title, xlabel="uncertainty (meV/atom)")
    panels[0].set_ylabel("error of the energy (meV/atom)")
    panels[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
