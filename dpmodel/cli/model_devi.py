"""Say how far several models disagree, frame by frame.

The columns are deepmd-kit's: largest, smallest and mean deviation of virials (eV/atom) and forces (eV/Å), and that of
the energy (eV/atom). Data come from systems, or from files that ASE reads.

Examples:
    dpmodel model-devi a.dp b.dp c.dp -s data/ -o model_devi.out
    dpmodel model-devi a.dp b.dp -s trajectory.xyz --frequency 100 --atomic
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from dpmodel.cli.frames import read_frames
from dpmodel.cli.options import Backend, Device, Head, Index, Json, Precision, Systems, Trust, console, progress
from dpmodel.data.systems import Frame
from dpmodel.engines.deviation import energy_deviation, force_deviation, summary, virial_deviation
from dpmodel.errors import InputError
from dpmodel.io.files import expect_free, replacing
from dpmodel.potential import load
from dpmodel.prediction import Prediction

LABELS = ("energy", "force", "virial")


class Row(NamedTuple):
    """A frame: deepmd-kit's columns, and the force deviation of each real atom, (n,)."""

    columns: dict[str, float]
    forces: np.ndarray


def main(
    models: Annotated[list[Path], typer.Argument(help="Two model files or more.", show_default=False)],
    systems: Systems,
    index: Index = ":",
    head: Head = None,
    frequency: Annotated[int, typer.Option("--frequency", min=1, help="Steps from frame to frame.")] = 1,
    real_error: Annotated[
        bool, typer.Option("--real-error", help="Distance from the labels, not from the mean.")
    ] = False,
    relative: Annotated[
        float | None, typer.Option("--relative", min=0, help="Forces relative to their size plus this (eV/Å).")
    ] = None,
    relative_v: Annotated[float | None, typer.Option("--relative-v", min=0, help="Virials, the same (eV).")] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="Add the force deviation of every atom.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("model_devi.out"),
    as_json: Json = False,
    backend: Backend = "numpy",
    device: Device = None,
    precision: Precision = None,
    trust: Trust = False,
) -> None:
    if len(models) < 2 and not real_error:
        raise InputError("one model deviates from nothing: give two or more, or --real-error")
    expect_free(output, overwrite=True)
    potentials = [load(path, backend, head=head, device=device, precision=precision, trusted=trust) for path in models]
    for potential in potentials:
        potential.expect_forces()
    every = zip(*(read_frames(systems or [], potential, index) for potential in potentials), strict=True)
    deviations = {}
    with progress() as bar:
        for versions in bar.track(every, description="systems"):
            predictions = [p.evaluate_many(v.structures) for p, v in zip(potentials, versions, strict=True)]
            rows = zip(versions[0].frames, zip(*predictions, strict=True), strict=True)
            where = versions[0].path
            deviations[where] = [deviation(f, p, where if real_error else None, relative, relative_v) for f, p in rows]
    write(output, deviations, frequency, atomic)
    console.print(f"wrote {output}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps({path: to_json(rows, frequency, atomic) for path, rows in deviations.items()}, indent=2))


def deviation(
    frame: Frame,
    predictions: Sequence[Prediction],
    labeled: str | None,
    relative: float | None,
    relative_v: float | None,
) -> Row:
    """The columns of one frame; ``labeled``: where its labels are from, if they take the place of the mean."""
    if labeled is not None and (missing := [name for name in LABELS if name not in frame.labels]):
        raise InputError(f"{labeled}: --real-error needs energies, forces and virials, {', '.join(missing)} missing")
    label = frame.labels if labeled is not None else {}
    real = frame.structure.types >= 0
    count = int(real.sum())
    energies, virials, forces = (
        np.stack([np.asarray(getattr(p, name))[0] for p in predictions]) for name in ("energy", "virial", "forces")
    )
    f = force_deviation(forces[:, real], relative, label["force"][real] if label else None)
    v = virial_deviation(virials, count, relative_v, label.get("virial"))
    e = energy_deviation(energies, count, label.get("energy"))
    return Row(summary(f, v) | {"devi_e": e}, f)


def write(output: Path, deviations: dict[str, list[Row]], frequency: int, atomic: bool) -> None:
    """deepmd-kit's file: a head and the lines of every system, one after another."""
    with replacing(output) as file:
        for path, rows in deviations.items():
            names = [*(rows[0].columns if rows else ()), *(["atm_devi_f(N)"] if atomic else [])]
            file.write((f"# {path}\n# {'step':10}" + "".join(f"{name:19}" for name in names) + "\n").encode())
            for i, row in enumerate(rows):
                values = [*row.columns.values(), *(row.forces if atomic else ())]
                file.write((f"{i * frequency:12d}" + "".join(f"{value:19.6e}" for value in values) + "\n").encode())


def to_json(rows: list[Row], frequency: int, atomic: bool) -> list[dict[str, object]]:
    """One object a frame."""
    return [
        {"step": i * frequency} | dict(row.columns) | ({"atomic": row.forces.tolist()} if atomic else {})
        for i, row in enumerate(rows)
    ]
