"""Run an exported model, python run_torch.py MODEL.pt2, with PyTorch, NumPy and vesin: no dpmodel."""

import sys

import numpy as np
import torch
from pairs import arguments, read_record

path = sys.argv[1]
record = read_record(path)
try:
    program = torch.export.load(path).module()
except Exception:  # noqa: BLE001  written with --aot
    program = torch._inductor.aoti_load_package(path)
test = record["test"]
values = arguments(record, test["positions"], test["types"], test["cell"])
with torch.no_grad():
    energy, atom_energy, forces, virial, atom_virial = program(*map(torch.tensor, values))
worst = np.abs(forces.numpy() - test["forces"]).max()
print(f"energy {float(energy):.10f} eV, forces as the file says to {worst:.1e} eV/angstrom")
sys.exit(int(worst > record["tolerance"] * np.abs(test["forces"]).max()))
