"""Draw learning curves, or predictions against labels.

Examples:
    dpmodel plot lcurve.out -o curve.png
    dpmodel test model.dp -s data --detail details && dpmodel plot details/*.npz
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

import numpy as np
import typer

from dpmodel.cli.accuracy import UNITS
from dpmodel.cli.options import told
from dpmodel.errors import BackendError, FileError
from dpmodel.train.curve import read_curve

COLUMNS = {"e": "energy", "f": "force", "v": "virial"}  # of the learning curve


def main(
    files: Annotated[list[Path], typer.Argument(help="lcurve.out, or the .npz files of dpmodel test --detail.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG, SVG or PDF.")] = Path("plot.png"),
) -> None:
    plot(files, output)
    told.print(f"wrote {output}", markup=False, soft_wrap=True)


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
    panels: dict[str, list[str]] = {}
    for name in columns:
        panels.setdefault("_".join(name.split("_")[:2]) if "_" in name else name, []).append(name)
    panels = {panel: names for panel, names in panels.items() if not panel.endswith(("_val", "_trn"))}
    if not panels:
        raise FileError(f"{path}: expected columns of errors, as rmse_e_trn, found {', '.join(columns) or 'none'}")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]  # type: ignore[attr-defined]
    for axis, (panel, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            axis.plot(step, columns[name], label=name.removeprefix(f"{panel}_"), lw=1)
        axis.set(xlabel="step", ylabel=f"{panel} ({UNITS.get(COLUMNS.get(panel.split('_')[1], ''), '')})", yscale="log")
        axis.legend(frameon=False)


def _parity(figure: object, paths: Sequence[Path]) -> None:
    """Predictions against labels, one panel for each quantity."""
    found: dict[str, list[np.ndarray]] = {}
    for path in paths:
        values = _detail(path)
        atoms = (values["types"] >= 0).sum(axis=1)
        for name in UNITS:
            if name in values:
                pair = np.stack([values[name], values[f"predicted_{name}"]])
                if name != "force":
                    pair = pair / atoms.reshape(-1, *[1] * (pair.ndim - 2))
                found.setdefault(name, []).append(pair.reshape(2, -1))
    if not found:
        raise FileError(f"{paths[0]}: expected labels and predictions of 'dpmodel test --detail', found none")
    axes = figure.subplots(1, len(found), squeeze=False)[0]  # type: ignore[attr-defined]
    for axis, (name, pairs) in zip(axes, found.items(), strict=True):
        label, said = np.concatenate(pairs, axis=1)
        rmse = np.sqrt(np.mean((said - label) ** 2))
        axis.plot(label, said, ".", ms=2, rasterized=True)
        axis.axline((label.mean(), label.mean()), slope=1, color="0.6", lw=1, zorder=0)
        axis.set(xlabel=f"{name}, label ({UNITS[name]})", ylabel="prediction", title=f"RMSE {rmse:.3g}")


def _detail(path: Path) -> dict[str, np.ndarray]:
    """What ``dpmodel test --detail`` wrote of one system."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            values = dict(kept)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    lacking = {"types", *(f"predicted_{name}" for name in UNITS if name in values)} - values.keys()
    if lacking:
        raise FileError(
            f"{path}: expected a file of 'dpmodel test --detail', but {', '.join(sorted(lacking))} is missing"
        )
    return values
