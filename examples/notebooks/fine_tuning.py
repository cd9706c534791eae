# %% [markdown]
# # Fine-tuning to a new element
#
# A model of copper and gold learns silver from a few structures. It starts from what it knows of metals; beside it a
# model that starts from nothing sees the same frames. Labels come from ASE's EMT potential.
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

STEPS = int(os.environ.get("STEPS", "800"))
folder = Path(tempfile.mkdtemp(prefix="fine-tuning-"))


def run(command: str) -> None:
    """A command of dpmodel in the folder of this example."""
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


# %% [markdown]
# ## Much data of two elements, little of three

# %%
random = np.random.default_rng(5)
LATTICE = {"Cu": 3.61, "Ag": 4.09, "Au": 4.08}


def with_labels(atoms: Atoms) -> Atoms:
    """A copy with energy, forces and stress of EMT: what ASE writes into extended XYZ."""
    atoms.calc = EMT()
    labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    result = atoms.copy()
    result.calc = SinglePointCalculator(result, **labels)
    return result


def labeled(elements: list[str], n_atoms: int = 8) -> Atoms:
    """A crystal with each element at least once, strained and shaken."""
    symbols = [*elements, *random.choice(elements, n_atoms - len(elements))]
    lattice = np.mean([LATTICE[symbol] for symbol in symbols]) * random.uniform(0.96, 1.05)
    atoms = bulk("Cu", a=lattice).repeat(2)
    atoms.symbols[:] = random.permutation(symbols)
    atoms.positions += random.normal(0, 0.1, (n_atoms, 3))
    return with_labels(atoms)


data = {
    "old": [labeled(["Cu", "Au"]) for _ in range(200)],
    "old_valid": [labeled(["Cu", "Au"]) for _ in range(30)],
    "new": [labeled(["Cu", "Ag", "Au"]) for _ in range(20)],
    "new_valid": [labeled(["Cu", "Ag", "Au"]) for _ in range(40)],
}
for name, frames in data.items():
    ase.io.write(folder / f"{name}.xyz", frames)
    run(f"dpmodel data convert {name}.xyz {name} --format extxyz")

# %% [markdown]
# ## Three inputs
#
# The first model knows copper and gold. The others have silver in their type map; `--finetune` takes parameters by
# element, and what is new starts fresh, as a warning says. A fine-tuning run begins with a smaller learning rate.

# %%
run("dpmodel example water water")


def write_input(name: str, elements: list[str], which: str, steps: int, rate: float) -> None:
    settings = json.loads((folder / "water" / "input.json").read_text())
    settings["model"]["type_map"] = elements
    # the same number of neighbors in all three, so that the parameters fit
    settings["model"]["descriptor"]["repinit"] |= {"nsel": 80, "three_body_sel": 30}
    settings["model"]["descriptor"]["repformer"] |= {"nsel": 30}
    settings["learning_rate"] |= {"start_lr": rate}
    settings["training"] |= {
        "training_data": {"systems": [which], "batch_size": 2},
        "validation_data": {"systems": [f"{which}_valid"], "batch_size": 8},
        "numb_steps": steps,
        "disp_freq": max(1, steps // 10),
        "disp_file": f"{name}.out",
        "save_ckpt": name,
    }
    (folder / f"{name}.json").write_text(json.dumps(settings))


write_input("pretrained", ["Cu", "Au"], "old", STEPS, rate=2e-3)
write_input("fine", ["Cu", "Ag", "Au"], "new", STEPS // 2, rate=1e-3)
write_input("scratch", ["Cu", "Ag", "Au"], "new", STEPS // 2, rate=2e-3)

run("dpmodel train pretrained.json --backend torch")
run("dpmodel train fine.json --finetune pretrained.pt --backend torch")
run("dpmodel train scratch.json --backend torch")

# %% [markdown]
# ## Both on held-out frames

# %%
for name in ("scratch", "fine"):
    run(f"dpmodel test {name}.pt -s new_valid --detail {name} --backend torch")

figure = Figure(figsize=(8, 3.6), layout="constrained")
panels = zip(figure.subplots(1, 2, sharey=True), ("scratch", "fine"), ("nothing", "copper and gold"), strict=True)
for axes, name, origin in panels:
    files = [np.load(path) for path in sorted((folder / name).glob("*.npz"))]
    label, model = (np.concatenate([f[key].ravel() for f in files]) for key in ("force", "predicted_force"))
    error = np.sqrt(np.mean((model - label) ** 2))
    axes.plot(label, model, ".", markersize=3)
    axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
    axes.set(xlabel="force, EMT (eV/Å)", ylabel="force, model (eV/Å)", title=f"from {origin}: RMSE {error:.3f} eV/Å")
figure.savefig("fine_tuning.png", dpi=110)
print("wrote fine_tuning.png; models and data in", folder)
figure
