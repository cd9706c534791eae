"""Run an exported model, python run_jax.py MODEL.stablehlo, with JAX, NumPy and vesin: no dpmodel."""

import sys
import zipfile

import jax
import numpy as np
from jax import export
from pairs import arguments, read_record

jax.config.update("jax_enable_x64", True)
path = sys.argv[1]
record = read_record(path)
program = jax.jit(export.deserialize(bytearray(zipfile.ZipFile(path).read("model.stablehlo"))).call)
test = record["test"]
values = arguments(record, test["positions"], test["types"], test["cell"])
energy, atom_energy, forces, virial, atom_virial = program(*values)
worst = np.abs(np.asarray(forces) - test["forces"]).max()
print(f"energy {float(energy):.10f} eV, forces as the file says to {worst:.1e} eV/angstrom")
sys.exit(int(worst > record["tolerance"] * np.abs(test["forces"]).max()))
