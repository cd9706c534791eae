# %% [markdown]
# # A metal alloy
#
# From structures with energies and forces to a trained model and a physical curve. Labels come from ASE's EMT
# potential, which takes no time, in place of a quantum method; everything else is as it would be with labels of your
# own.
#
# Needs `pip install 'dpmodel[torch,ase,train]'`. About two minutes on two cores; `STEPS=20` tries it.

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
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from dpmodel.engines.ase import DPCalculator

STEPS = int(os.environ.get("STEPS", "1500"))
folder = Path(tempfile.mkdtemp(prefix="alloy-"))


def run(command: str) -> None:
    """A command of dpmodel in the folder of this example."""
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


# %% [markdown]
# ## Structures with labels
#
# Sixteen atoms of copper and gold on an fcc lattice in five compositions and any order, strained and shaken. ASE
# writes energies, forces and stresses into extended XYZ.

# %%
random = np.random.default_rng(1)


def crystal(n_gold: int, scale: float = 1.0) -> Atoms:
    """Sixteen atoms, ``n_gold`` of them gold at random, at Vegard's lattice constant times ``scale``."""
    lattice = (3.61 + (4.08 - 3.61) * n_gold / 16) * scale
    atoms = bulk("Cu", a=lattice).repeat((2, 2, 4))
    atoms.symbols[random.permutation(16)[:n_gold]] = "Au"
    return atoms


def with_labels(atoms: Atoms) -> Atoms:
    """A copy with energy, forces and stress of EMT: what ASE writes into extended XYZ."""
    atoms.calc = EMT()
    labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    result = atoms.copy()
    result.calc = SinglePointCalculator(result, **labels)
    return result


def labeled() -> Atoms:
    """A crystal with its cell strained by some percent and its atoms about 0.1 Å off their sites."""
    atoms = crystal(n_gold=random.choice([0, 4, 8, 12, 16]), scale=random.uniform(0.95, 1.07))
    atoms.set_cell(atoms.cell @ (np.eye(3) + random.normal(0, 0.02, (3, 3))), scale_atoms=True)
    atoms.positions += random.normal(0, 0.1, (16, 3))
    return with_labels(atoms)


ase.io.write(folder / "train.xyz", [labeled() for _ in range(200)])
ase.io.write(folder / "valid.xyz", [labeled() for _ in range(40)])

# %% [markdown]
# ## Data and input file
#
# `data convert` makes one system for each composition. The input is that of the example of water with other elements
# and fewer steps; `nsel: auto` counts the neighbors.

# %%
run("dpmodel data convert train.xyz train --format extxyz")
run("dpmodel data convert valid.xyz valid --format extxyz")
run("dpmodel data check train")
run("dpmodel example water water")

settings = json.loads((folder / "water" / "input.json").read_text())
settings["model"]["type_map"] = ["Cu", "Au"]
settings["training"] |= {
    "training_data": {"systems": ["train"], "batch_size": 2},
    "validation_data": {"systems": ["valid"], "batch_size": 4},
    "numb_steps": STEPS,
    "disp_freq": max(1, STEPS // 10),
}
(folder / "input.json").write_text(json.dumps(settings))

# %% [markdown]
# ## Train and test

# %%
run("dpmodel train input.json --backend torch")
run("dpmodel convert model.ckpt.pt alloy.dp")
run("dpmodel test alloy.dp -s valid --detail details --backend torch")

# %% [markdown]
# ## Energy against volume
#
# Of perfect crystals, while training saw shaken ones only; beside it the forces of held-out
# frames.

# %%
scales = np.linspace(0.95, 1.07, 13)
pure = {"Cu": (3.61, "C0"), "Au": (4.08, "C1")}
figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)

details = [np.load(path) for path in sorted((folder / "details").glob("*.npz"))]
label, model = (np.concatenate([d[name].ravel() for d in details]) for name in ("force", "predicted_force"))
left.plot(label, model, ".", markersize=3)
left.axline((0, 0), slope=1, color="0.6", linewidth=1)
left.set(xlabel="force, EMT (eV/Å)", ylabel="force, model (eV/Å)", title="held-out frames")

for symbol, (lattice, color) in pure.items():
    volumes, energies = [], {"EMT": [], "model": []}
    for scale in scales:
        atoms = bulk(symbol, a=lattice * scale)
        volumes.append(atoms.get_volume())
        for name, calculator in (("EMT", EMT()), ("model", DPCalculator(folder / "alloy.dp", backend="torch"))):
            atoms.calc = calculator
            energies[name].append(atoms.get_potential_energy())
    right.plot(volumes, energies["EMT"], color=color, label=f"{symbol}, EMT")
    right.plot(volumes, energies["model"], "o", color=color, markersize=4, label=f"{symbol}, model")
right.set(xlabel="volume (Å³/atom)", ylabel="energy (eV/atom)", title="perfect crystals")
right.legend()
figure.savefig("alloy.png", dpi=110)
print("wrote alloy.png; model and data in", folder)
figure
