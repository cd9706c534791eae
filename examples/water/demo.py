"""What a model of water says of one frame that it has not been trained on, and how far the backends agree.

Run ``make demo`` in the project's folder, or ``python demo.py --backends numpy torch``; NumPy alone needs nothing but
dpmodel itself.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import dpmodel
from dpmodel.cli.compare import compare
from dpmodel.data.systems import Frame, System
from dpmodel.potential import Potential

HERE = Path(__file__).parent
MODEL = HERE / "water.dp"
HELD_OUT = HERE / "data" / "valid_16"
GPA = 160.21766208  # of an eV/angstrom^3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["numpy"], help="numpy torch jax paddle")
    parser.add_argument("--frame", type=int, default=0, help="which frame of the held-out ones")
    given = parser.parse_args()
    console = Console(highlight=False)
    try:
        predict(console, given.frame)
        agree(console, given.backends)
    except dpmodel.DpmodelError as error:
        raise SystemExit(f"error: {error}") from None


def predict(console: Console, number: int) -> None:
    """One frame beside its label, and all of them in short."""
    start = time.perf_counter()
    potential, system = dpmodel.load(MODEL), System(HELD_OUT)
    frame, loaded = system.frame(number), time.perf_counter()
    s = frame.structure
    p = potential.evaluate(s.positions, s.types, s.cell)
    done = time.perf_counter()

    console.print(f"[bold]{MODEL.name}[/] {potential!r}", soft_wrap=True)
    console.print(f"loaded in {loaded - start:.2f} s; {len(s.types)} atoms, energy and forces in {done - loaded:.2f} s")
    console.print()
    table = Table(title=f"frame {number} of {HELD_OUT.name}", box=None, header_style="bold", title_justify="left")
    for name in ("", "model", "GFN1-xTB", "difference"):
        table.add_column(name, justify="right" if name else "left")
    labels = frame.labels
    for words, (ours, theirs) in {
        "energy per atom (eV)": (p.energy[0] / len(s.types), labels["energy"] / len(s.types)),
        "largest force (eV/Å)": (largest(p.forces[0]), largest(labels["force"])),
        "pressure (GPa)": (pressure(p.virial[0], s.cell), pressure(labels["virial"], s.cell)),
    }.items():
        table.add_row(words, f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}")
    console.print(table)
    error = force_error(potential, list(system))
    console.print(f"forces of all {len(system)} held-out frames: off by {error:.3f} eV/Å (root mean square)\n")


def largest(forces: np.ndarray) -> float:
    """Length of the longest force, eV/angstrom."""
    return float(np.linalg.norm(forces.reshape(-1, 3), axis=1).max())


def pressure(virial: np.ndarray, cell: np.ndarray) -> float:
    """Pressure without the motion of the atoms, GPa, from the virial in eV and the cell in angstrom."""
    return float(np.trace(virial.reshape(3, 3)) / 3.0 / abs(np.linalg.det(cell)) * GPA)


def force_error(potential: Potential, frames: Sequence[Frame]) -> float:
    """Root mean square of the differences between forces and labels, eV/angstrom."""
    predictions = potential.evaluate_many(frame.structure for frame in frames)
    errors = [p.forces[0] - frame.labels["force"].reshape(-1, 3) for p, frame in zip(predictions, frames, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


def agree(console: Console, backends: Sequence[str]) -> None:
    """The backends beside NumPy; JAX compiles at its first call, which takes a while."""
    found = compare(MODEL, backends=backends)
    console.print(found)
    if not found.ok:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
