"""On a machine with a GPU: every backend on it against NumPy, and how long forces take.

    python benchmarks/gpu.py --backends torch,jax,paddle --device cuda

The stored models of the tests and the medium model are evaluated in float64 on NumPy and on the device; differences
beyond rounding are an error.  TensorFloat-32, which would round products to ten bits, has to be off.  Prints one line a
model and the capabilities that may then be said to be there (``dpmodel.capabilities``: "gpu").
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from water import MEDIUM, water

import dpmodel
from dpmodel.errors import BackendError

TRAINED = Path(__file__).parents[1] / "examples" / "water" / "water.dp"
TOLERANCE = 1e-10  # eV/angstrom; sums run in another order


def main(
    backends: Annotated[str, typer.Option(help="Comma-separated.")] = "torch,jax,paddle",
    device: Annotated[str, typer.Option(help="cuda, cuda:1, ...")] = "cuda",
    sizes: Annotated[str, typer.Option(help="Numbers of atoms, multiples of 48.")] = "192,1536,12288",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Check, then measure."""
    wrong = []
    for name in backends.split(","):
        try:
            potentials = {
                "trained": dpmodel.load(TRAINED, name, device=device),
                "medium": dpmodel.create(MEDIUM, name, seed=1, device=device),
            }
        except BackendError as error:
            print(f"{name}: left out, {error}")
            continue
        for what, potential in potentials.items():
            x, t, cell = water(192)
            found, expected = (p.evaluate(x, t, cell) for p in (potential, potential.to("numpy")))
            error = np.abs(found.forces - expected.forces).max()
            print(f"{name}, {what}: forces differ by {error:.1e} eV/angstrom from NumPy's")
            if not error < TOLERANCE:
                wrong.append(f"{name}, {what}")
        for size in map(int, sizes.split(",")):
            print(f"{name}, medium, {size} atoms: {timed(potentials['medium'], size, rounds):.4f} s")
    if wrong:
        raise SystemExit(f"not as on NumPy: {'; '.join(wrong)}")


def timed(potential: dpmodel.Potential, size: int, rounds: int) -> float:
    """Median seconds of energy, forces and virial after a first call; results are back on the host, so all is done."""
    x, t, cell = water(size)
    potential.evaluate(x, t, cell)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        potential.evaluate(x, t, cell)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    typer.run(main)
