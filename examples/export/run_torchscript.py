"""Run a model exported for deepmd-kit, python run_torchscript.py MODEL.pth, with PyTorch and NumPy: no dpmodel."""

import json
import sys
import zipfile

import numpy as np
import torch

path = sys.argv[1]
archive = zipfile.ZipFile(path)
record = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith("dpmodel.json"))))
signature = "(" + ", ".join(f"Tensor {name}" for name in "abcdefghi") + ") -> Tensor[]"
torch.library.define("deepmd::border_op", signature)  # between MPI ranks; one process needs none
program = torch.jit.load(path)
test = record["test"]
x, types, cell = (torch.tensor(np.array(test[name]))[None] for name in ("positions", "types", "cell"))
results = program(x, types, cell)
worst = np.abs(results["force"][0].numpy() - test["forces"]).max()
print(f"energy {float(results['energy']):.10f} eV, forces as the file says to {worst:.1e} eV/angstrom")
sys.exit(int(worst > record["tolerance"] * np.abs(test["forces"]).max()))
