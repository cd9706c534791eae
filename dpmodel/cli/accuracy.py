"""Errors of a model on labeled data.

Energies, virials and quantities of frames of other heads are compared per atom.

Examples:
    dpmodel test model.dp -s data/held_out
    dpmodel test multitask.pt -s data/ --head all
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dpmodel.accuracy import Accuracy, accuracy, details, quantities, total
from dpmodel.cli.options import Backend, Device, Json, Model, Systems, Trust, Uncertainty, console
from dpmodel.cli.plot import plot_calibration
from dpmodel.data.systems import System, find_systems
from dpmodel.edit.uncertainty import n_atoms, residuals
from dpmodel.errors import FileError, printable
from dpmodel.io.files import make_folder, replacing
from dpmodel.io.model import contents_of
from dpmodel.potential import Potential, load
from dpmodel.statistics.rigidity import Check


def main(
    model: Model,
    systems: Systems,
    most: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Frames of each system; all if not given.")
    ] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", "--model-branch", help="Which model of a multi-task file; repeatable; all for all."),
    ] = None,
    detail: Annotated[
        Path | None, typer.Option("--detail", "-d", help="Directory for labels and predictions (npz).")
    ] = None,
    uncertainty: Uncertainty = False,
    as_json: Json = False,
    backend: Backend = "numpy",
    device: Device = None,
    trust: Trust = False,
) -> None:
    paths, shown, several = [str(path) for path in systems or ()], {}, chosen(model, heads)
    for head in several:
        potential = load(model, backend, head=head, device=device, trusted=trust)
        folder = detail / head if detail and head and len(several) > 1 else detail
        results = evaluate_systems(potential, paths, most, folder, console, skip=len(several) > 1)
        check = calibration(potential, paths, most) if uncertainty else None
        shown[head or ""] = as_numbers(results, check)
        if not as_json:
            title = f"[bold]{escape(printable(head))}[/]" if head and len(several) > 1 else ""
            Console(highlight=False).print(*[title] * bool(title), table(results))
        if check is not None and not as_json:
            _plot(check, (folder or Path()) / "calibration.png")
    if as_json:
        print(json.dumps({"heads": shown} if len(several) > 1 else next(iter(shown.values())), indent=2))


def chosen(model: Path, heads: Sequence[str] | None) -> list[str | None]:
    """The heads to test by name; None for that of a file with one, or with one that counts if none is named."""
    if heads and [name.lower() for name in heads] == ["all"]:
        heads = list(contents_of(model).heads)
    return [*heads] if heads else [None]


def _plot(check: Check, picture: Path) -> None:
    console.print(check.sentence, soft_wrap=True)
    plot_calibration(check, picture)
    console.print(f"wrote {picture}", markup=False, soft_wrap=True)


def calibration(potential: Potential, paths: Sequence[str], most: int | None) -> Check:
    """Errors of energies, per atom, on the systems in and below ``paths`` beside those that the model expects."""
    errors, deviations = [], []
    for path in find_systems(paths):
        system = System(path, potential.settings, {"energy"})
        frames = [system.frame(i) for i in range(min(most or system.n_frames, system.n_frames))]
        frames = [frame for frame in frames if "energy" in frame.labels]
        if frames:
            structures = [frame.structure for frame in frames]
            predictions = potential.evaluate_many(structures, forces=False, uncertainty=True)
            errors += [*residuals(predictions, frames)]
            deviations += [p.energy_uncertainty[0] / n_atoms(f) for p, f in zip(predictions, frames, strict=True)]
    if not errors:
        raise FileError(f"{', '.join(paths)}: expected energies to compare uncertainties with, found none")
    return Check(np.array(errors), np.array(deviations))


def evaluate_systems(
    potential: Potential,
    paths: Sequence[str],
    most: int | None,
    detail: Path | None,
    console: Console,
    *,
    skip: bool = False,
) -> list[Accuracy]:
    """Errors of ``potential`` on the first ``most`` frames of each system in and below ``paths``.

    ``detail``: a directory for labels and predictions, one ``.npz`` a system; ``skip`` systems without labels, unless
    none has any.
    """
    if detail is not None:
        make_folder(detail)
    settings = potential.settings
    names = {quantity.label for quantity in quantities(settings)}
    systems = [System(path, settings, names) for path in find_systems(paths)]
    results: list[Accuracy] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("testing", total=sum(min(most or s.n_frames, s.n_frames) for s in systems))
        for number, system in enumerate(systems):
            frames = [system.frame(i) for i in range(min(most or system.n_frames, system.n_frames))]
            if not any(names & frame.labels.keys() for frame in frames):
                if skip and (results or system is not systems[-1]):
                    continue
                words = "energies, forces or virials" if "energy" in names else " or ".join(sorted(names))
                raise FileError(f"{system.path}: expected {words} to compare with, found none")
            predictions = potential.evaluate_many([frame.structure for frame in frames])
            results.append(accuracy(system.path, settings, frames, predictions))
            if detail is not None:
                path = detail / f"{number:03d}_{Path(system.path.replace('#', '/')).name}.npz"
                with replacing(path) as file:
                    np.savez(file, allow_pickle=False, **details(results[-1], frames, predictions))
            progress.advance(bar, len(frames))
    return results


def table(results: Sequence[Accuracy]) -> Table:
    """One row for each system, and one for all."""
    every = total(results)
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("system", overflow="fold", min_width=10)
    shown.add_column("frames")
    compared = [q for q in every.compared if q.name in every.errors]
    for quantity in compared:
        shown.add_column(f"{quantity.name}\n{quantity.unit}\nRMSE", justify="right", no_wrap=True)
        shown.add_column("\n\nMAE", justify="right", no_wrap=True)
    for one in [*results, every] if len(results) > 1 else results:
        errors = [one.errors.get(quantity.name) for quantity in compared]
        cells = [f"{x:.3g}" if e else "-" for e in errors for x in ((e.rmse, e.mae) if e else (0, 0))]
        shown.add_row(escape(one.path), str(one.n_frames), *cells)
    return shown


def as_numbers(results: Sequence[Accuracy], check: Check | None = None) -> dict[str, object]:
    """The same for programs."""

    def numbers(one: Accuracy) -> dict[str, object]:
        return {"system": one.path, "frames": one.n_frames, **one.numbers()}

    calibration = {} if check is None else {"uncertainty": check.numbers()}
    return {"systems": [numbers(one) for one in results], "total": numbers(total(results)), **calibration}
