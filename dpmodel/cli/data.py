"""The commands ``dpmodel data ...``."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from dpmodel.data.check import Report, check_system
from dpmodel.data.systems import find_systems
from dpmodel.errors import FileError

SHOWN = 20  # problems of one system


def check_paths(paths: Sequence[str], out: Console, told: Console, too_close: float, absurd_force: float) -> None:
    """Print a table of the systems in and below ``paths``; raises FileError if anything is wrong in them."""
    systems = find_systems(paths)
    every = track(systems, "reading", console=told, transient=True)
    reports = [check_system(path, too_close, absurd_force) for path in every]
    out.print(table(reports))
    for report in reports:
        for problem in report.problems[:SHOWN]:
            told.print(f"[red]bad:[/] {escape(problem)}", soft_wrap=True)
        if len(report.problems) > SHOWN:
            told.print(f"[red]bad:[/] {escape(report.path)}: and {len(report.problems) - SHOWN} more")
    bad = sum(bool(report.problems) for report in reports)
    if bad:
        raise FileError(f"{bad} of {len(reports)} systems have bad data")


def table(reports: Sequence[Report]) -> Table:
    """One row for each system."""
    result = Table()
    result.add_column("system", overflow="fold")
    for name in ("frames", "atoms", "elements", "labels", "closest\nA", "force\neV/A", "bad"):
        result.add_column(name)
    for r in reports:
        elements = " ".join(f"{name}{count / r.n_counted:.3g}" for name, count in sorted(r.elements.items()))
        force = f"{r.largest_force:.3g}" if "force" in r.labels else "-"
        numbers = f"{r.shortest:.3f}" if r.shortest < float("inf") else "-", force, str(len(r.problems))
        result.add_row(escape(r.path), str(r.n_frames), str(r.n_atoms), elements, " ".join(r.labels), *numbers)
    return result
