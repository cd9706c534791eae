# %% [markdown]
# # Export into other engines
#
# A model as a program that PyTorch runs alone, `.pt2`, as one that XLA runs, `.stablehlo`, and as deepmd-kit's
# `.pth`. Each file carries a test of its own, which a fresh process has passed before the file has its name. Here
# each is loaded again and compared with NumPy on structures that it has never seen.
#
# Needs `pip install 'dpmodel[torch,jax,train]'`. About two minutes on two cores, most of them compiling;
# `FORMS=pth` makes one of the three.

# %%
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import dpmodel

FORMS = os.environ.get("FORMS", "pt2 stablehlo pth").split()
folder = Path(tempfile.mkdtemp(prefix="exporting-"))


def run(command: str) -> None:
    """A command of dpmodel in the folder of this example."""
    subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, check=True)


run("dpmodel example water water")
for form in FORMS:
    run(f"dpmodel export water/water.dp water.{form}")

# %% [markdown]
# ## Compared with NumPy
#
# An exported file is a program: `trusted=True` says that you know where it comes from. Without dpmodel the loaders of
# `examples/export` run it.

# %%
system = folder / "water" / "data" / "valid_16"
types = np.loadtxt(system / "type.raw", dtype=int)
coord = np.load(system / "set.000" / "coord.npy").reshape(-1, len(types), 3)
box = np.load(system / "set.000" / "box.npy").reshape(-1, 3, 3)

reference = dpmodel.load(folder / "water" / "water.dp")
errors, times = {}, {}
for form in FORMS:
    program = dpmodel.load(folder / f"water.{form}", trusted=True)
    errors[form] = []
    for x, cell in zip(coord[:4], box[:4], strict=True):
        p, expected = (potential.evaluate(x, types, cell) for potential in (program, reference))
        errors[form].append(float(abs(p.forces - expected.forces).max()))
    began = time.perf_counter()
    for _ in range(5):
        program.evaluate(x, types, cell)  # the same shapes: XLA compiles for each anew
    times[form] = (time.perf_counter() - began) / 5
    print(f"{form}: forces within {max(errors[form]):.1e} eV/Å of NumPy's, {1e3 * times[form]:.0f} ms a frame")

# %%
figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
for form in FORMS:
    left.semilogy(range(1, 5), np.maximum(errors[form], 1e-16), "o", label=f".{form}")
left.set(xlabel="held-out frame", ylabel="largest difference of forces (eV/Å)", ylim=(1e-16, 1e-10))
left.legend()
right.bar([f".{form}" for form in FORMS], [1e3 * times[form] for form in FORMS])
right.set(ylabel="time for energy, forces and virial (ms)", title="48 atoms, one core")
figure.savefig("exporting.png", dpi=110)
print("wrote exporting.png; the files are in", folder)
figure
