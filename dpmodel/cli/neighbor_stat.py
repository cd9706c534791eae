"""Numbers of neighbors in data, and the shortest distance.

"auto" is what nsel: "auto" becomes: 1.1 times the largest number, rounded up to a multiple of four.

Examples:
    dpmodel neighbor-stat -s data/ -r 6.0 -r 4.0
"""

import json
import math
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dpmodel.cli.frames import read_frames
from dpmodel.cli.options import Index, Json, Systems, progress
from dpmodel.statistics.neighbors import NeighborStatistics, automatic, neighbor_statistics


def main(
    systems: Systems,
    cutoffs: Annotated[list[float], typer.Option("--rcut", "-r", min=0.1, help="Cutoff radius (Å); repeatable.")],
    index: Index = ":",
    as_json: Json = False,
) -> None:
    statistics = NeighborStatistics(dict.fromkeys(cutoffs, 0))
    with progress() as bar:
        for frames in bar.track(read_frames(systems or [], index=index), description="systems"):
            statistics |= neighbor_statistics(frames.structures, cutoffs, frames.path)
    shortest = statistics.shortest if math.isfinite(statistics.shortest) else None
    if as_json:
        most = [{"rcut": c, "max_nbor_size": n, "auto": automatic(n, "auto")} for c, n in statistics.most.items()]
        print(json.dumps({"min_nbor_dist": shortest, "cutoffs": most}, indent=2))
        return
    table = Table(box=SIMPLE_HEAD)
    for name in ("cutoff (Å)", "most neighbors", '"auto"'):
        table.add_column(name, justify="right")
    for cutoff, most_neighbors in statistics.most.items():
        table.add_row(f"{cutoff:g}", str(most_neighbors), str(automatic(most_neighbors, "auto")))
    Console(highlight=False).print(table)
    print("shortest distance: " + ("none within the cutoffs" if shortest is None else f"{shortest:.4f} Å"))
