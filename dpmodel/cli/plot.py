"""Draw learning curves, or predictions against labels.

Examples:
    dpmodel plot lcurve.out -o curve.png
    dpmodel test model.dp -s data --detail details && dpmodel plot details/*.npz
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

import numpy as np
import typer

from dpmodel.cli.options import console
from dpmodel.errors import BackendError, FileError
from dpmodel.statistics.rigidity import PROBABILITIES, Check
from dpmodel.train.curve import read_curve

CURVES = {"e": "eV/atom", "f": "eV/Å", "v": "eV/atom"}  # units of its columns
UNITS = {"energy": "eV/atom", "force": "eV/Å", "virial": "eV/atom"}
COLUMN = re.compile(r"(.+?)_((?:val|trn)(?:_.+)?)")  # of a learning curve: error and data, task if there are several


def main(
    files: Annotated[list[Path], typer.Argument(help="lcurve.out, or the .npz files of dpmodel test --detail.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG, SVG or PDF.")] = Path("plot.png"),
) -> None:
    plot(files, output)
    console.print(f"wrote {output}", markup=False, soft_wrap=True)


def plot_calibration(check: Check, output: Path) -> None:
    """Shares of errors within the bounds that the model expects, and errors beside deviations."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BackendError("plots need Matplotlib: pip install 'dpmodel[train]'") from error
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(PROBABILITIES, check.shares(PROBABILITIES), label=f"area {check.area:.3f}")
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    left.set(xlabel="expected share of errors within bounds", ylabel="share that is")
    left.legend()
    errors, expected = 1000 * np.abs(check.residuals), 1000 * check.deviations
    right.loglog(expected, np.maximum(errors, 1e-3 * errors.max()), ".", markersize=4)
    ends = np.array([expected.min(), expected.max()])
    for times in (1, 2):
        right.plot(ends, times * ends, color="0.6", linewidth=1)
    right.set(xlabel="deviation expected (meV/atom)", ylabel="error of the energy (meV/atom)")
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise FileError(f"{output}: cannot be drawn: {error}") from error


def plot(paths: Sequence[Path], output: Path) -> None:
    """Draw ``lcurve.out``, or the ``.npz`` files that ``dpmodel test --detail`` wrote, into a PNG, SVG or PDF."""
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no state
    except ModuleNotFoundError as error:
        raise BackendError("plots need Matplotlib: pip install 'dpmodel[train]'") from error
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    if all(path.suffix == ".npz" for path in paths):
        _parity(figure, paths)
    elif len(paths) == 1:
        _curve(figure, paths[0])
    else:
        raise FileError("expected one learning curve, or .npz files of 'dpmodel test --detail' only")
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise FileError(f"{output}: cannot be drawn: {error}") from error


def _curve(figure: object, path: Path) -> None:
    """Every error of the file with the steps, one panel for each quantity."""
    columns = read_curve(str(path))
    step = columns.pop("step")
    columns.pop("lr", None)
    panels: dict[str, list[tuple[str, str]]] = {}
    for name in columns:
        if parts := COLUMN.fullmatch(name):
            panels.setdefault(parts[1], []).append((name, parts[2]))
    if any(panel.startswith("rmse_") for panel in panels):
        panels.pop("rmse", None)  # the root of the loss
    if not panels:
        raise FileError(f"{path}: expected columns of errors, as rmse_e_trn, found {', '.join(columns) or 'none'}")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]  # type: ignore[attr-defined]
    for axis, (panel, names) in zip(axes, panels.items(), strict=True):
        for name, data in names:
            axis.plot(step, columns[name], label=data, lw=1)
        unit = CURVES.get(panel.rpartition("_")[2])
        axis.set(xlabel="step", ylabel=f"{panel} ({unit})" if unit else panel, yscale="log")
        axis.legend(frameon=False)


def _parity(figure: object, paths: Sequence[Path]) -> None:
    """Predictions against labels, one panel for each quantity."""
    pairs_of: dict[str, list[np.ndarray]] = {}
    for path in paths:
        values = _detail(path)
        atoms = (values["types"] >= 0).sum(axis=1)
        for name in _compared(values):
            pair = np.stack([values[name], values[f"predicted_{name}"]])
            if name in values.get("per_atom", ("energy", "virial")):
                pair = pair / atoms.reshape(-1, *[1] * (pair.ndim - 2))
            pairs_of.setdefault(name, []).append(pair.reshape(2, -1))
    if not pairs_of:
        raise FileError(f"{paths[0]}: expected labels and predictions of 'dpmodel test --detail', found none")
    axes = figure.subplots(1, len(pairs_of), squeeze=False)[0]  # type: ignore[attr-defined]
    for axis, (name, pairs) in zip(axes, pairs_of.items(), strict=True):
        label, said = np.concatenate(pairs, axis=1)
        rmse = np.sqrt(np.mean((said - label) ** 2))
        axis.plot(label, said, ".", ms=2, rasterized=True)
        axis.axline((label.mean(), label.mean()), slope=1, color="0.6", lw=1, zorder=0)
        unit = f" ({UNITS[name]})" if name in UNITS else ""
        axis.set(xlabel=f"{name}, label{unit}", ylabel="prediction", title=f"RMSE {rmse:.3g}")


def _compared(values: dict[str, np.ndarray]) -> list[str]:
    """Names of what there are labels and predictions of."""
    return [name for name in values if f"predicted_{name}" in values]


def _detail(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one system that ``dpmodel test --detail`` wrote."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            values = dict(archive)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    beside = {name for name in values if f"predicted_{name}" not in values and not name.startswith("predicted_")}
    lacking = {"types"} - values.keys() | {f"predicted_{name}" for name in beside - {"types", "per_atom"}}
    if lacking:
        raise FileError(
            f"{path}: expected a file of 'dpmodel test --detail', but {', '.join(sorted(lacking))} is missing"
        )
    return values
