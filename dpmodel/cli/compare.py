"""Numbers and times of backends, or of two models.

The exit code is 1 if they do not agree. With --precision: float32 beside float64, and what it is good for.

Examples:
    dpmodel compare model.dp --backends torch,jax --structure water.xyz
    dpmodel compare model.dp --with model.pth --trust
    dpmodel compare model.dp water.xyz --precision --backends torch
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

import dpmodel
from dpmodel.accuracy import json_number
from dpmodel.backend import backend as find_backend
from dpmodel.backend import installed
from dpmodel.cli.frames import read_structures
from dpmodel.cli.options import Head, Index, Json, Model, Trust
from dpmodel.cli.precision import PRECISIONS, PrecisionReport, compare_precision
from dpmodel.data.elements import masses_of
from dpmodel.data.samples import asked, example
from dpmodel.data.structure import Structure
from dpmodel.edit.precision import with_precision
from dpmodel.edit.verified_save import tolerance_of
from dpmodel.errors import BackendError, InputError
from dpmodel.export.record import has_record
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.potential import Potential, load

Arrays = dict[str, np.ndarray]
Loaded = ModelFile | Potential  # an exported file is a potential from the start

REFERENCE = "numpy"
CALLS = 5  # whose median is the time
UNITS = {"energy/atom": "eV", "forces": "eV/Å", "virial": "eV"}


def main(
    model: Model,
    structures: Annotated[
        list[Path] | None, typer.Argument(help="Anything ASE reads; a small structure of its types if not given.")
    ] = None,
    other: Annotated[Path | None, typer.Option("--with", help="Another model, compared on the same backend.")] = None,
    structure: Annotated[
        list[Path] | None, typer.Option("--structure", help="The same, by its name; repeatable.")
    ] = None,
    index: Index = ":",
    head: Head = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Relative to the largest number; 1e-10, in float32 2e-5.")
    ] = None,
    as_json: Json = False,
    backends: Annotated[str | None, typer.Option(help="Comma-separated; all that are installed if not given.")] = None,
    precision: Annotated[
        bool, typer.Option("--precision", help="float32 beside float64, on the first backend.")
    ] = False,
    trust: Trust = False,
) -> None:
    names = [name.strip() for name in backends.split(",")] if backends else None
    paths: list[Path] = [*(structures or []), *(structure or [])]
    report: Any
    if precision:
        report = _precisions(model, paths, index, head, (names or [REFERENCE])[0])
    else:
        report = compare(
            model,
            backends=names,
            structures=paths,
            index=index,
            other=other,
            tolerance=tolerance,
            head=head,
            trusted=trust,
        )
    if as_json:
        print(report.to_json())
    else:
        Console(highlight=False).print(report)
    if not precision and not report.ok:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Gap:
    """The difference of a quantity from the reference."""

    largest: float
    scale: float  # largest number of the reference

    @property
    def relative(self) -> float:
        return self.largest / self.scale if self.scale else float(self.largest > 0.0)


@dataclass(frozen=True)
class Line:
    """One backend or model."""

    name: str
    device: str = ""
    first: float = 0.0  # seconds of the first call, in which programs are compiled
    seconds: float = 0.0  # of the others
    gaps: dict[str, Gap] = field(default_factory=dict)
    missing: str = ""  # why it could not be used


@dataclass(frozen=True)
class Comparison:
    """The reference and what was compared with it; ``rich.print`` shows a table."""

    title: str
    tolerance: float  # relative to the largest number of a quantity
    reference: Line
    lines: Sequence[Line]

    def agrees(self, line: Line) -> bool:
        return all(gap.relative <= self.tolerance for gap in line.gaps.values())

    @property
    def ok(self) -> bool:
        return all(self.agrees(line) for line in self.lines)

    def to_json(self) -> str:
        return json.dumps(
            {
                "dpmodel": dpmodel.__version__,
                "title": self.title,
                "tolerance": self.tolerance,
                "ok": self.ok,
                "reference": self._entry(self.reference),
                "lines": [self._entry(line) for line in self.lines],
            },
            indent=2,
        )

    def _entry(self, line: Line) -> dict[str, Any]:
        if line.missing:
            return {"name": line.name, "missing": line.missing}
        quantities = {
            name: {part: json_number(getattr(gap, part)) for part in ("largest", "scale", "relative")}
            for name, gap in line.gaps.items()
        }
        times = {"first_seconds": line.first, "seconds": line.seconds}
        return {"name": line.name, "device": line.device, "ok": self.agrees(line), **times, "quantities": quantities}

    def __rich__(self) -> RenderableType:
        rows = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        rows.add_column("", no_wrap=True)
        for name in (*self.reference.gaps, "1st call", "then", ""):
            rows.add_column(f"{name}\n{UNITS.get(name, '')}".rstrip(), justify="right")
        scales = [f"({gap.scale:.3g})" for gap in self.reference.gaps.values()]
        rows.add_row(self.reference.name, *scales, *_times(self.reference), "")
        for line in self.lines:
            rows.add_row(line.name, *self._cells(line))
        below = Text(f"largest differences; allowed is {self.tolerance:g} of the largest number, in brackets", "dim")
        reasons = [Text(f"{line.name}: {line.missing}", "yellow") for line in self.lines if line.missing]
        return Group(Text(self.title, "bold"), rows, below, *reasons)

    def _cells(self, line: Line) -> list[RenderableType]:
        if line.missing:
            return [*["" for _ in self.reference.gaps], "", "", Text("missing", "yellow")]
        gaps = [line.gaps.get(name) for name in self.reference.gaps]
        cells = [Text(f"{gap.largest:.1e}", _color(gap.relative <= self.tolerance)) if gap else "-" for gap in gaps]
        agrees = self.agrees(line)
        return [*cells, *_times(line), Text("ok" if agrees else "differs", _color(agrees))]


def _color(good: bool) -> str:
    return "green" if good else "bold red"


def _times(line: Line) -> tuple[str, str]:
    return f"{line.first * 1e3:,.0f} ms", f"{line.seconds * 1e3:,.1f} ms"


def compare(
    model: Path,
    *,
    backends: Sequence[str] | None = None,
    structures: Sequence[Path] = (),
    index: str = ":",
    other: Path | None = None,
    tolerance: float | None = None,
    precision: str | None = None,
    head: str | None = None,
    trusted: bool = False,
) -> Comparison:
    """Compare backends with NumPy, or the model ``other`` with ``model``.

    Parameters
    ----------
    model, other : path
        Model files.
    backends : list of str, optional
        By default all, of which some may be missing; two models are compared on the first of them, by default NumPy.
    structures : list of path
        Anything that ASE reads, of which ``index`` chooses frames; by default a small structure of the model's types.
    tolerance : float, optional
        Relative to the largest number; by default 1e-10, and 2e-5 where single precision is involved.
    precision, head, trusted
        As for ``dpmodel.load``.

    Raises
    ------
    BackendError
        If one of ``backends`` is not available.
    """
    names = list(dict.fromkeys(backends or [REFERENCE, *installed()]))
    files = [opened(path, head, precision, trusted) for path in ([model, other] if other else [model])]
    if not other and isinstance(files[0], Potential):
        raise InputError(f"{model} is an exported file: compare it --with the model that it was made from")
    kinds = [file.settings.fitting_net.type for file in files]
    if len(set(kinds)) > 1:
        raise InputError(f"{model} is an {kinds[0]} model, {other} is a {kinds[1]} model: there is nothing to compare")
    atoms = [a for path in structures for a in read_structures(path, index)]

    def measured(name: str, file: Loaded, right: Arrays | None = None, label: str = "") -> tuple[Line, Arrays]:
        potential = file if isinstance(file, Potential) else Potential(file, find_backend(name).engine())
        frames = [potential.structure(a) for a in atoms] if atoms else [sample(potential, common(files))]
        try:
            return measure(potential, frames, label or name, right)
        except InputError as error:
            raise InputError(f"{label or name}: {error}") from None

    lines = []
    if other:
        reference, right = measured(names[0], files[0], label=model.name)
        lines.append(measured(names[0], files[1], right, label=other.name)[0])
    else:
        reference, right = measured(REFERENCE, files[0])
        for name in names:
            if name != REFERENCE:
                try:
                    lines.append(measured(name, files[0], right)[0])
                except BackendError as error:
                    if backends:
                        raise
                    lines.append(Line(name, missing=str(error)))
    where = (
        f"{', '.join(map(str, structures))}, {len(atoms)} structure(s)" if atoms else "a small structure of its types"
    )
    title = f"{other or model}{f' beside {model} on {names[0]}' if other else ''}: {where}"
    return Comparison(title, tolerance or max(tolerance_of(file.settings) for file in files), reference, lines)


def _precisions(model: Path, structures: Sequence[Path], index: str, head: str | None, backend: str) -> PrecisionReport:
    """float32 beside float64 of one model on one backend."""
    file, engine = read_model(model, head), find_backend(backend).engine()
    if file.settings.fitting_net.type != "ener":
        raise InputError(f"{model}: expected an energy model, got a {file.settings.fitting_net.type} model")
    double, single = (Potential(with_precision(file, name), engine) for name in PRECISIONS)
    atoms = [a for path in structures for a in read_structures(path, index)]
    frames = [double.structure(a) for a in atoms] or [sample(double, common([file]))]
    return compare_precision(double, single, frames, masses_of(file.settings.type_map))


def opened(path: Path, head: str | None, precision: str | None, trusted: bool) -> Loaded:
    """The model in ``path``, or the program."""
    if has_record(path):
        return load(path, trusted=trusted)
    file = read_model(path, head)
    return with_precision(file, precision) if precision else file


def common(files: Sequence[Loaded]) -> list[str]:
    """Names of the types that all know."""
    return [name for name in files[0].settings.type_map if all(name in file.settings.type_map for file in files)]


def sample(potential: Potential, names: Sequence[str]) -> Structure:
    """A small structure of the types ``names``."""
    if not names:
        raise InputError("the models have no type in common")
    return asked(example(names), names, potential.settings)


def measure(potential: Potential, frames: list[Structure], name: str, right: Arrays | None) -> tuple[Line, Arrays]:
    """Times and numbers of a model, compared with those that are ``right`` (None: with themselves)."""
    times = []
    for _ in range(1 + CALLS):
        start = time.perf_counter()
        predictions = potential.evaluate_many(frames)
        times.append(time.perf_counter() - start)
    collected: dict[str, list[np.ndarray]] = {}
    for frame, p in zip(frames, predictions, strict=True):
        per_atom = None if p.energy is None else p.energy / len(frame.types)
        values = {"energy/atom": per_atom, "forces": p.forces, "virial": p.virial, **p.outputs}
        if isinstance(potential.file, ModelFile):  # a program has no descriptor to show
            (values["descriptor"],) = potential.evaluator.describe([frame], strict=potential.strict)
        for quantity, value in values.items():
            if value is not None:
                collected.setdefault(quantity, []).append(value.reshape(-1))
    numbers = {quantity: np.concatenate(values) for quantity, values in collected.items()}
    gaps = differences(numbers, numbers if right is None else right)
    return Line(name, potential.engine.device, times[0], median(times[1:]), gaps), numbers


def differences(numbers: Arrays, right: Arrays) -> dict[str, Gap]:
    """Of every quantity that both have in the same size: descriptors of different models may not."""
    return {
        name: Gap(float(np.abs(numbers[name] - value).max()), float(np.abs(value).max()))
        for name, value in right.items()
        if name in numbers and numbers[name].shape == value.shape
    }
