# %% [markdown]
# # A model in your own JAX program
#
# `dpmodel_jax.apply` is a pure function of a dictionary of arrays: jit, grad, vmap and optax take it as they take any
# other. Here a molecule is relaxed by Newton's method, and the second derivative that this needs gives its
# vibrations, too.
#
# Needs `pip install 'dpmodel[jax,train]'`. Less than a minute on two cores, most of which is compiling.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import dpmodel
import dpmodel_jax

jax.config.update("jax_enable_x64", True)  # positions are float64, as everywhere in dpmodel
folder = Path(tempfile.mkdtemp(prefix="own-jax-"))
subprocess.run([sys.executable, "-m", "dpmodel", "example", "water", "water"], cwd=folder, check=True)

# %% [markdown]
# ## The energy as a function of positions
#
# `split` takes a model apart: the arrays that are trained, and all else. `potential.graph` says who is whose
# neighbor.

# %%
potential = dpmodel.load(folder / "water" / "water.dp")
params, fixed = dpmodel_jax.split(potential.file.model)
positions = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])  # Å
molecule = dpmodel.Structure(positions, np.array([0, 1, 1]), None, np.zeros(3, dtype=bool))
graph, positions = potential.graph([molecule])


def energy(x):
    """Energy of the molecule, eV, from positions (3, 3)."""
    return dpmodel_jax.atomic_output(params, fixed, graph, x).sum()


slope = jax.jit(jax.value_and_grad(energy))
curvature = jax.jit(jax.jacrev(jax.grad(energy)))

# %% [markdown]
# ## Newton's method
#
# Six of the nine modes move or turn the molecule and cost nothing: the pseudo-inverse leaves them alone.

# %%
x, history = jnp.asarray(positions), []
for step in range(8):
    value, gradient = slope(x)
    history.append(float(jnp.abs(gradient).max()))
    print(f"step {step}: {float(value):.6f} eV, largest force {history[-1]:.1e} eV/Å")
    if history[-1] < 1e-8:
        break
    hessian = curvature(x).reshape(9, 9)
    change = -jnp.linalg.pinv(hessian, rtol=1e-3, hermitian=True) @ gradient.ravel()
    x = x + change.reshape(3, 3) * min(1.0, 0.1 / float(jnp.abs(change).max()))

# %% [markdown]
# ## Vibrations
#
# Eigenvalues of the curvature in mass-weighted coordinates. The model was trained on liquid water; measured are those
# of the free molecule.

# %%
masses = np.repeat([15.999, 1.008, 1.008], 3)  # g/mol
weighted = np.asarray(curvature(x)).reshape(9, 9) / np.sqrt(np.outer(masses, masses))
eigenvalues = np.linalg.eigvalsh((weighted + weighted.T) / 2)[-3:]
wavenumbers = np.sqrt(eigenvalues) * 521.47  # eV/(Å² g/mol) to 1/cm
measured = np.array([1595.0, 3657.0, 3756.0])
print("wavenumbers", np.round(wavenumbers), "1/cm; measured", measured)

figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.semilogy(history, "o-")
left.set(xlabel="step of Newton's method", ylabel="largest force (eV/Å)")
places = np.arange(3)
right.bar(places - 0.2, wavenumbers, 0.4, label="model")
right.bar(places + 0.2, measured, 0.4, label="measured, free molecule")
right.set(xticks=places, xticklabels=["bend", "stretch", "stretch"], ylabel="wavenumber (1/cm)", ylim=(0, 4800))
right.legend()
figure.savefig("own_jax.png", dpi=110)
print("wrote own_jax.png")
figure
