"""How far a model gets in a short training, averaged over seeds, since one seed says little.

python benchmarks/learning.py INPUT.json --seeds 1,2,3 --backend torch

runs the input file once a seed, with ``seed`` set in all its sections, and prints the root mean square error of forces
over all validation frames, beside the last row of the learning curve, whose batch may be a single frame.

For comparison, deepmd-kit's water example with a small DPA-2 and 300 steps: deepmd-kit 3.2 ends at 0.41 to 0.43 eV/A
in the last row with seed 1.  Its initial values of six seeds, trained by the loop here, end at 0.43, 0.52, 0.59, 0.52,
0.47 and 0.57.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dpmodel.backend import backend as find_backend
from dpmodel.cli.accuracy import evaluate_systems, total
from dpmodel.io.deepmd import SINGLE
from dpmodel.potential import Potential
from dpmodel.train.curve import read_curve
from dpmodel.train.prepare import prepare
from dpmodel.train.script import read_script


def main(
    script: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file of single-task training, JSON.")],
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    backend: Annotated[str, typer.Option(help="torch, jax, paddle or numpy.")] = "torch",
    steps: Annotated[int | None, typer.Option(help="The input's if not given.")] = None,
) -> None:
    """Train once a seed."""
    given = json.loads(script.read_text())
    for name in ("training_data", "validation_data"):
        absolute(given["training"][name], script.parent.resolve())
    given["training"]["numb_steps"] = steps or given["training"]["numb_steps"]
    rows, errors = [], []
    for seed in map(int, seeds.split(",")):
        given["training"]["seed"] = given["model"]["descriptor"]["seed"] = given["model"]["fitting_net"]["seed"] = seed
        last, error, seconds = _train(given, backend)
        print(f"seed {seed}: {error:.4f} eV/A over all frames, last row {last:.4f}; {seconds:.2f} s a step", flush=True)
        rows.append(last)
        errors.append(error)
    print(f"mean: {statistics.mean(errors):.4f} eV/A over all frames, last rows {statistics.mean(rows):.4f}")


def _train(given: dict[str, Any], name: str) -> tuple[float, float, float]:
    """Errors of the forces in the last row of the curve and over all validation frames, and the time of a step."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run = prepare(read_script(given), find_backend(name).engine())
            start = time.perf_counter()
            run.run()
            seconds = (time.perf_counter() - start) / run.n_steps
            potential = Potential(run.models()[SINGLE], find_backend(name).engine())
            systems = given["training"]["validation_data"]["systems"]
            forces = total(evaluate_systems(potential, systems, None, None, Console(quiet=True))).errors["force"]
            return read_curve("lcurve.out")["rmse_f_val"][-1], forces.rmse, seconds
        finally:
            os.chdir(before)


def absolute(data: dict[str, Any], folder: Path) -> None:
    """Paths of systems count from the folder of the input file."""
    systems = [data["systems"]] if isinstance(data["systems"], str) else data["systems"]
    data["systems"] = [str(folder / path) for path in systems]


if __name__ == "__main__":
    typer.run(main)
