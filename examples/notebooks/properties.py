# %% [markdown]
# # Energies and a property by one descriptor
#
# Two tasks share one description of the atoms: energies and forces, of which there are many, and bulk moduli, of
# which there are few. Labels come from ASE's EMT potential; a bulk modulus is a second derivative of its energy.
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
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

STEPS = int(os.environ.get("STEPS", "1200"))
folder = Path(tempfile.mkdtemp(prefix="properties-"))


def run(command: str) -> None:
    """A command of dpmodel in the folder of this example."""
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


# %% [markdown]
# ## Data of two kinds
#
# Copper-gold crystals of eight atoms. The energies go through extended XYZ; a property is one more array beside the
# coordinates, `bulk_modulus.npy`, a number a frame, GPa.

# %%
random = np.random.default_rng(3)


def crystal() -> Atoms:
    """Eight atoms in any composition and order, strained and shaken by a little."""
    n_gold = random.integers(9)
    atoms = bulk("Cu", a=(3.61 + 0.47 * n_gold / 8) * random.uniform(0.98, 1.03)).repeat(2)
    atoms.symbols[random.permutation(8)[:n_gold]] = "Au"
    atoms.positions += random.normal(0, 0.05, (8, 3))
    return atoms


def with_labels(atoms: Atoms) -> Atoms:
    """A copy with energy, forces and stress of EMT: what ASE writes into extended XYZ."""
    atoms.calc = EMT()
    labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    result = atoms.copy()
    result.calc = SinglePointCalculator(result, **labels)
    return result


def bulk_modulus(atoms: Atoms) -> float:
    """V E''(V) of the crystal, GPa, by finite differences."""
    volumes, energies = [], []
    for scale in (0.99, 1.0, 1.01):
        copy = atoms.copy()
        copy.set_cell(atoms.cell * scale, scale_atoms=True)
        copy.calc = EMT()
        volumes.append(copy.get_volume())
        energies.append(copy.get_potential_energy())
    return 2 * volumes[1] * np.polyfit(np.array(volumes) - volumes[1], energies, 2)[0] / units.GPa


def write_energies(name: str, n: int) -> None:
    ase.io.write(folder / f"{name}.xyz", [with_labels(crystal()) for _ in range(n)])
    run(f"dpmodel data convert {name}.xyz {name} --format extxyz")


def write_moduli(name: str, n: int) -> None:
    """A system in deepmd-kit's mixed format: every frame has elements of its own."""
    frames = [crystal() for _ in range(n)]
    system = folder / name
    (system / "set.000").mkdir(parents=True)
    (system / "type_map.raw").write_text("Cu\nAu\n")
    (system / "type.raw").write_text("0\n" * 8)
    arrays = {
        "real_atom_types": [(atoms.symbols == "Au").astype(int) for atoms in frames],
        "coord": [atoms.positions.ravel() for atoms in frames],
        "box": [atoms.cell.array.ravel() for atoms in frames],
        "bulk_modulus": [[bulk_modulus(atoms)] for atoms in frames],
    }
    for key, values in arrays.items():
        np.save(system / "set.000" / f"{key}.npy", np.array(values))


write_energies("train", 150)
write_energies("valid", 30)
write_moduli("moduli_train", 40)
write_moduli("moduli_valid", 40)

# %% [markdown]
# ## Two tasks in one input
#
# `shared_dict` holds what is shared; each task has a fitting net, a loss and data. `model_prob` says how often each
# is trained. A bulk modulus does not grow with the number of atoms: `intensive`.

# %%
run("dpmodel example water water")
settings = json.loads((folder / "water" / "input.json").read_text())
settings["model"] = {
    "shared_dict": {"elements": ["Cu", "Au"], "dpa2": settings["model"]["descriptor"]},
    "model_dict": {
        "energy": {"type_map": "elements", "descriptor": "dpa2", "fitting_net": {"neuron": [32, 32, 32]}},
        "modulus": {
            "type_map": "elements",
            "descriptor": "dpa2",
            "fitting_net": {
                "type": "property",
                "property_name": "bulk_modulus",
                "task_dim": 1,
                "intensive": True,
                "neuron": [32, 32, 32],
            },
        },
    },
}
settings["loss_dict"] = {"energy": settings.pop("loss"), "modulus": {"type": "property"}}


def data(training: str, validation: str) -> dict:
    return {
        "training_data": {"systems": [training], "batch_size": 4},
        "validation_data": {"systems": [validation], "batch_size": 4},
    }


settings["training"] = {
    "data_dict": {"energy": data("train", "valid"), "modulus": data("moduli_train", "moduli_valid")},
    "model_prob": {"energy": 0.6, "modulus": 0.4},
    "numb_steps": STEPS,
    "disp_freq": max(1, STEPS // 10),
    "gradient_max_norm": 5.0,
    "seed": 1,
}
(folder / "input.json").write_text(json.dumps(settings))
run("dpmodel train input.json --backend torch")
run("dpmodel show model.ckpt.pt")
run("dpmodel test model.ckpt.pt --head energy -s valid --detail energies --backend torch")
run("dpmodel test model.ckpt.pt --head modulus -s moduli_valid --detail moduli --backend torch")

# %% [markdown]
# ## Both on held-out frames

# %%
figure = Figure(figsize=(8, 3.6), layout="constrained")
panels = zip(
    figure.subplots(1, 2),
    (("energies", "force", "eV/Å"), ("moduli", "bulk_modulus", "GPa")),
    strict=True,
)
for axes, (where, name, unit) in panels:
    files = [np.load(path) for path in sorted((folder / where).glob("*.npz"))]
    label, model = (np.concatenate([f[key].ravel() for f in files]) for key in (name, f"predicted_{name}"))
    error = np.sqrt(np.mean((model - label) ** 2))
    axes.plot(label, model, ".", markersize=4)
    axes.axline((label[0], label[0]), slope=1, color="0.6", linewidth=1)
    words = name.replace("_", " ")
    axes.set(xlabel=f"{words}, EMT ({unit})", ylabel=f"{words}, model ({unit})", title=f"RMSE {error:.2g} {unit}")
figure.savefig("properties.png", dpi=110)
print("wrote properties.png; model and data in", folder)
figure
