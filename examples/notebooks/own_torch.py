# %% [markdown]
# # A model in your own PyTorch program
#
# `dpmodel_torch.Model` is an `nn.Module`: optimizers, losses, hooks and everything else of PyTorch take it. Here a
# training loop of ten lines with a loss that no input file offers: the largest errors of forces count, the others do
# not.
#
# Needs `pip install 'dpmodel[torch,train]'`. About a minute on two cores; `STEPS=5` tries it.

# %%
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import dpmodel
import dpmodel_torch

STEPS = int(os.environ.get("STEPS", "100"))
folder = Path(tempfile.mkdtemp(prefix="own-torch-"))
subprocess.run([sys.executable, "-m", "dpmodel", "example", "water", "water"], cwd=folder, check=True)
water = folder / "water"

# %% [markdown]
# ## From structures to tensors
#
# `potential.graph` makes what the model asks for: who is whose neighbor, and the positions, of one structure or of
# several.


# %%
def frames_of(system: Path) -> tuple[list[dpmodel.Structure], np.ndarray]:
    """Structures and forces (nf, n, 3), eV/Å, of a folder of deepmd-kit's format."""
    types = np.loadtxt(system / "type.raw", dtype=int)
    coord, box, force = (np.load(system / "set.000" / f"{name}.npy") for name in ("coord", "box", "force"))
    periodic = np.ones(3, dtype=bool)
    structures = [
        dpmodel.Structure(x.reshape(-1, 3), types, cell.reshape(3, 3), periodic)
        for x, cell in zip(coord, box, strict=True)
    ]
    return structures, force.reshape(len(force), -1, 3)


potential = dpmodel.load(water / "water.dp")
structures, forces = frames_of(water / "data" / "train_16")
held_out, held_out_forces = frames_of(water / "data" / "valid_16")
print(len(structures), "frames of", len(structures[0].types), "atoms")


def batch(chosen: list[dpmodel.Structure]) -> tuple:
    """Graph and positions as tensors."""
    return dpmodel_torch.tensors(potential.graph(chosen))


# %% [markdown]
# ## The loop
#
# The model begins with its parameters rounded to three bits, so that there is something to mend. Its forces can be
# differentiated by the parameters; the largest tenth of their errors makes the loss.

# %%
model = dpmodel_torch.Model(potential.file.model)
with torch.no_grad():
    for parameter in model.parameters():
        mantissa, exponent = torch.frexp(parameter)
        parameter.copy_(torch.ldexp(torch.round(8 * mantissa) / 8, exponent))
rounded = dpmodel.Potential(replace(potential.file, model=model.to_numpy()), potential.engine)

optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.0)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
random, losses = np.random.default_rng(0), []
for step in range(STEPS):
    chosen = random.choice(len(structures), 2, replace=False)
    graph, positions = batch([structures[i] for i in chosen])
    values = model(graph, positions)
    errors = torch.linalg.norm(values.forces - torch.tensor(np.concatenate(forces[chosen])), dim=1)
    loss = errors.topk(len(errors) // 10).values.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(float(loss.detach()))
    if step % 25 == 0:
        print(f"step {step}: {losses[-1]:.3f} eV/Å")

# %% [markdown]
# ## Back to a file
#
# `to_numpy` gives the model back; written, every backend and engine runs it.

# %%
trained = dpmodel.Potential(replace(potential.file, model=model.to_numpy()), potential.engine)
trained.save(folder / "trained.dp")


def errors_of(p: dpmodel.Potential) -> np.ndarray:
    """Errors of the forces of held-out atoms, eV/Å."""
    predicted = np.stack([q.forces[0] for q in p.evaluate_many(held_out)])
    return np.linalg.norm(predicted - held_out_forces, axis=-1).ravel()


figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(losses)
left.set(xlabel="step", ylabel="loss (eV/Å)", title="mean of the largest tenth")
for name, p in (("rounded", rounded), ("trained again", dpmodel.load(folder / "trained.dp"))):
    sorted_errors = np.sort(errors_of(p))
    share = 1 - np.arange(len(sorted_errors)) / len(sorted_errors)
    right.loglog(sorted_errors, share, label=name)
    print(f"{name}: root mean square {np.sqrt(np.mean(sorted_errors**2)):.3f}, largest {sorted_errors[-1]:.3f} eV/Å")
right.set(xlabel="error of the force of an atom (eV/Å)", ylabel="share of atoms beyond", title="held-out frames")
right.legend()
figure.savefig("own_torch.png", dpi=110)
print("wrote own_torch.png; the model is in", folder)
figure
