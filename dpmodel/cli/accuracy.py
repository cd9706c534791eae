"""Errors of a model on labeled data.

Energies and virials are compared per atom.

Examples:
    dpmodel test model.dp -s data/held_out
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dpmodel.cli.options import Backend, Device, Head, Json, Model, Systems, told
from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.errors import FileError
from dpmodel.evaluator import Prediction
from dpmodel.io.files import make_folder, replacing
from dpmodel.potential import Potential, load

UNITS = {"energy": "eV/atom", "force": "eV/Å", "virial": "eV/atom"}
PREDICTED = {"energy": "energy", "force": "forces", "virial": "virial"}  # names of labels: names of predictions


def main(
    model: Model,
    systems: Systems,
    most: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Frames of each system; all if not given.")
    ] = None,
    head: Head = None,
    detail: Annotated[
        Path | None, typer.Option("--detail", "-d", help="Directory for labels and predictions (npz).")
    ] = None,
    as_json: Json = False,
    backend: Backend = "numpy",
    device: Device = None,
) -> None:
    potential = load(model, backend, head=head, device=device)
    results = evaluate_systems(potential, [str(path) for path in systems or ()], most, detail, told)
    if as_json:
        print(to_json(results))
    else:
        Console(highlight=False).print(table(results))


@dataclass
class Errors:
    """Differences between predictions and labels; sums over ``number`` of them."""

    squares: float = 0.0
    absolute: float = 0.0
    number: int = 0

    def add(self, difference: np.ndarray) -> None:
        """Take in more of them."""
        self.squares += float((difference**2).sum())
        self.absolute += float(np.abs(difference).sum())
        self.number += difference.size

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squares / self.number)) if self.number else float("nan")

    @property
    def mae(self) -> float:
        return self.absolute / self.number if self.number else float("nan")


@dataclass
class Accuracy:
    """Errors of one system, or of all: energies and virials per atom."""

    path: str
    n_frames: int = 0
    errors: dict[str, Errors] = field(default_factory=lambda: {name: Errors() for name in UNITS})

    def add(self, frame: Frame, found: Prediction) -> None:
        """Take in one frame."""
        self.n_frames += 1
        real = frame.structure.types >= 0
        for name, errors in self.errors.items():
            if name in frame.labels:
                difference = predicted(found, name) - frame.labels[name]
                errors.add(difference[real] if name == "force" else difference / max(1, real.sum()))

    def numbers(self) -> dict[str, object]:
        """As plain numbers, for JSON."""
        found: dict[str, object] = {"system": self.path, "frames": self.n_frames}
        for name, errors in self.errors.items():
            found |= {f"rmse_{name}": errors.rmse, f"mae_{name}": errors.mae} if errors.number else {}
        return found


def predicted(found: Prediction, name: str) -> np.ndarray:
    """What the model says of a label of one frame."""
    value = getattr(found, PREDICTED[name])
    return np.asarray(value[0])


def total(systems: Iterable[Accuracy]) -> Accuracy:
    """All frames of all systems together."""
    result = Accuracy("total")
    for one in systems:
        result.n_frames += one.n_frames
        for name, errors in result.errors.items():
            errors.squares += one.errors[name].squares
            errors.absolute += one.errors[name].absolute
            errors.number += one.errors[name].number
    return result


def evaluate_systems(
    potential: Potential, paths: Sequence[str], most: int | None, detail: Path | None, told: Console
) -> list[Accuracy]:
    """Errors of ``potential`` on the first ``most`` frames of each system in and below ``paths``.

    ``detail``: a directory for labels and predictions, one ``.npz`` a system.
    """
    if detail is not None:
        make_folder(detail)
    systems = [System(path, potential.settings, UNITS) for path in find_systems(paths)]
    results = []
    with Progress(console=told, transient=True) as progress:
        bar = progress.add_task("testing", total=sum(min(most or s.n_frames, s.n_frames) for s in systems))
        for number, system in enumerate(systems):
            frames = [system.frame(i) for i in range(min(most or system.n_frames, system.n_frames))]
            if not any(name in frame.labels for frame in frames for name in UNITS):
                raise FileError(f"{system.path}: expected energies, forces or virials to compare with, found none")
            found = potential.evaluate_many([frame.structure for frame in frames])
            results.append(Accuracy(system.path))
            for frame, prediction in zip(frames, found, strict=True):
                results[-1].add(frame, prediction)
            if detail is not None:
                _write_detail(detail / f"{number:03d}_{Path(system.path.replace('#', '/')).name}.npz", frames, found)
            progress.advance(bar, len(frames))
    return results


def _write_detail(path: Path, frames: Sequence[Frame], found: Sequence[Prediction]) -> None:
    values = {"types": np.stack([frame.structure.types for frame in frames])}
    for name in UNITS:
        if all(name in frame.labels for frame in frames):
            values[name] = np.stack([frame.labels[name] for frame in frames])
            values[f"predicted_{name}"] = np.stack([predicted(f, name) for f in found])
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **values)


def table(results: Sequence[Accuracy]) -> Table:
    """One row for each system, and one for all."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("system", overflow="fold", min_width=10)
    shown.add_column("frames")
    for name, unit in UNITS.items():
        shown.add_column(f"{name}\n{unit}\nRMSE", justify="right", no_wrap=True)
        shown.add_column("\n\nMAE", justify="right", no_wrap=True)
    for one in [*results, total(results)] if len(results) > 1 else results:
        cells = [f"{x:.3g}" if e.number else "-" for e in one.errors.values() for x in (e.rmse, e.mae)]
        shown.add_row(escape(one.path), str(one.n_frames), *cells)
    return shown


def to_json(results: Sequence[Accuracy]) -> str:
    """The same for programs."""
    return json.dumps({"systems": [one.numbers() for one in results], "total": total(results).numbers()}, indent=2)
