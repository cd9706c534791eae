"""Show what systems hold, and find bad data in them.

Bad data are named by file and frame; the exit code is 2 then.

Examples:
    dpmodel data check data/
"""

import json
import math
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from dpmodel.cli.options import Json, console
from dpmodel.data.check import ABSURD_FORCE, TOO_CLOSE, Report, check_system
from dpmodel.data.systems import find_systems
from dpmodel.errors import FileError, printable

SHOWN = 20  # problems of one system


def main(
    paths: Annotated[list[str], typer.Argument(help="Systems, folders with systems, HDF5 files.")],
    too_close: Annotated[float, typer.Option(help="Pairs below this distance are bad data (Å).")] = TOO_CLOSE,
    absurd_force: Annotated[float, typer.Option(help="Forces above this are bad data (eV/Å).")] = ABSURD_FORCE,
    as_json: Json = False,
) -> None:
    systems = find_systems(paths)
    every = track(systems, "reading", console=console, transient=True)
    reports = [check_system(path, too_close, absurd_force) for path in every]
    if as_json:
        print(to_json(reports))
    else:
        Console().print(table(reports))
    for report in reports:
        for remark in report.remarks:
            console.print(f"[yellow]warning:[/] {escape(printable(remark))}", soft_wrap=True)
        for problem in report.problems[:SHOWN]:
            console.print(f"[red]bad:[/] {escape(problem)}", soft_wrap=True)
        if len(report.problems) > SHOWN:
            console.print(f"[red]bad:[/] {escape(report.path)}: and {len(report.problems) - SHOWN} more")
    bad = sum(bool(report.problems) for report in reports)
    if bad:
        raise FileError(f"{bad} of {len(reports)} systems have bad data")


def to_json(reports: Sequence[Report]) -> str:
    """All reports, problems included; null where nothing was measured."""
    plain = [vars(report) | {"elements": dict(report.elements)} for report in reports]
    finite = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in plain]
    return json.dumps({"ok": not any(report.problems for report in reports), "systems": finite}, indent=2)


def table(reports: Sequence[Report]) -> Table:
    """One row for each system."""
    result = Table()
    result.add_column("system", overflow="fold")
    for name in ("frames", "atoms", "elements", "labels", "closest\nÅ", "force\neV/Å", "bad"):
        result.add_column(name)
    for r in reports:
        sep = "" if all(name.isalpha() for name in r.elements) else "×"  # numbers stand for types without names
        elements = printable(" ".join(f"{n}{sep}{count / r.n_counted:.3g}" for n, count in sorted(r.elements.items())))
        force = f"{r.largest_force:.3g}" if "force" in r.labels else "-"
        numbers = f"{r.shortest:.3f}" if r.shortest < float("inf") else "-", force, str(len(r.problems))
        labels = escape(printable(" ".join(r.labels)))
        result.add_row(escape(printable(r.path)), str(r.n_frames), str(r.n_atoms), escape(elements), labels, *numbers)
    return result
