# %% [markdown]
# # Molecules without a cell
#
# Two water molecules in vacuum: training data without `box.npy`, a model without periodic images. Labels come from
# the model of the example of water in place of a quantum method, by `dpmodel label`.
#
# Needs `pip install 'dpmodel[torch,ase,train]'`. About a minute on two cores; `STEPS=20` tries it.

# %%
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from matplotlib.figure import Figure

import dpmodel

STEPS = int(os.environ.get("STEPS", "1000"))
folder = Path(tempfile.mkdtemp(prefix="molecule-"))


def run(command: str) -> None:
    """A command of dpmodel in the folder of this example."""
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


# %% [markdown]
# ## Structures and labels
#
# Pairs of molecules, turned at random, their oxygens 2.6 to 4.5 Å apart, every atom shaken by 0.05 Å.

# %%
random = np.random.default_rng(1)


def pair(distance: float) -> Atoms:
    """Two molecules of water without a cell."""
    first, second = molecule("H2O"), molecule("H2O")
    for water in (first, second):
        water.rotate(random.uniform(0, 360), random.normal(size=3), center=water.positions[0])
    second.positions += [0, 0, distance] + first.positions[0] - second.positions[0]
    atoms = first + second
    atoms.positions += random.normal(0, 0.05, (6, 3))
    return atoms


run("dpmodel example water water")
for name, count in (("train", 300), ("valid", 60)):
    ase.io.write(folder / f"{name}.xyz", [pair(random.uniform(2.6, 4.5)) for _ in range(count)])
    run(f"dpmodel label water/water.dp {name}.xyz --to {name} --backend torch")
run("dpmodel data check train")

# %% [markdown]
# ## Train
#
# The input of the example without the virial, which molecules in vacuum do not have.

# %%
settings = json.loads((folder / "water" / "input.json").read_text())
settings["loss"] |= {"start_pref_v": 0, "limit_pref_v": 0}
settings["training"] |= {
    "training_data": {"systems": ["train"], "batch_size": 4},
    "validation_data": {"systems": ["valid"], "batch_size": 4},
    "numb_steps": STEPS,
    "disp_freq": max(1, STEPS // 10),
}
(folder / "input.json").write_text(json.dumps(settings))
run("dpmodel train input.json --backend torch")
run("dpmodel convert model.ckpt.pt pair.dp")
run("dpmodel test pair.dp -s valid --detail details")

# %% [markdown]
# ## Forces of held-out pairs, and a bond that is stretched
#
# `evaluate_many` takes ASE's atoms as they are.

# %%
figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)

files = [np.load(path) for path in sorted((folder / "details").glob("*.npz"))]
label, model = (np.concatenate([f[key].ravel() for f in files]) for key in ("force", "predicted_force"))
left.plot(label, model, ".", markersize=3)
left.axline((0, 0), slope=1, color="0.6", linewidth=1)
left.set(xlabel="force, label (eV/Å)", ylabel="force, model (eV/Å)", title="held-out pairs")

lengths, stretched = np.linspace(0.86, 1.12, 20), []
atoms = pair(3.0)
for length in lengths:
    atoms.set_distance(0, 1, length, fix=0)
    stretched.append(atoms.copy())
for name, path, style in (("labels", "water/water.dp", "-"), ("model", "pair.dp", "o")):
    energies = np.array([p.energy[0] for p in dpmodel.load(folder / path).evaluate_many(stretched)])
    right.plot(lengths, energies - energies.min(), style, markersize=4, label=name)
right.set(xlabel="O-H bond (Å)", ylabel="energy (eV)", title="stretching a bond")
right.legend()
figure.savefig("molecule.png", dpi=110)
print("wrote molecule.png; model and data in", folder)
figure
