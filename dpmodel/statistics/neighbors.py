"""Numbers of neighbors and the shortest distance in the training data (specification/training.md 7.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpmodel.data.graph import COINCIDING
from dpmodel.data.neighbors import find_pairs, measure
from dpmodel.data.structure import Structure
from dpmodel.data.systems import System
from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.errors import FileError
from dpmodel.model.settings import ModelSettings


@dataclass(frozen=True)
class NeighborStatistics:
    """``most``: largest number of neighbors within each cutoff; ``shortest``: smallest distance, angstrom."""

    most: dict[float, int]
    shortest: float = np.inf

    def __or__(self, other: "NeighborStatistics") -> "NeighborStatistics":
        most = {cutoff: max(n, other.most.get(cutoff, 0)) for cutoff, n in self.most.items()}
        return replace(self, most=other.most | most, shortest=min(self.shortest, other.shortest))


def neighbor_statistics_of(system: System, i: int, cutoffs: Sequence[float]) -> NeighborStatistics:
    """The statistics of frame ``i``; raises FileError naming it where atoms are at the same place."""
    where = system.where(i, "coord")
    statistics = neighbor_statistics([system.frame(i).structure], cutoffs, where)
    if statistics.shortest < COINCIDING:
        raise FileError(f"{where}: two atoms, or their periodic images, are at the same place (dpmodel data check)")
    return statistics


def neighbor_statistics(
    structures: Iterable[Structure], cutoffs: Sequence[float], where: str = "structure"
) -> NeighborStatistics:
    """The statistics of ``structures`` strictly within each of ``cutoffs`` (angstrom), virtual atoms left out."""
    statistics = NeighborStatistics(dict.fromkeys(cutoffs, 0))
    for s in structures:
        reach = max(cutoffs)
        pairs = find_pairs(s.positions, s.cell, s.pbc, reach, s.types >= 0, where)
        edges = measure(pairs, s.positions, s.cell, reach)
        counts = {c: np.bincount(edges.center[edges.distance < c], minlength=1) for c in cutoffs}
        most = {c: int(count.max()) for c, count in counts.items()}
        statistics |= NeighborStatistics(most, float(edges.distance.min(initial=np.inf)))
    return statistics


def resolve_auto_nsel(settings: ModelSettings, statistics: NeighborStatistics) -> ModelSettings:
    """``settings`` with a number for every selection that is "auto"; raises SettingError if they then do not fit.

    Where a number has to be larger than another one, "auto" makes it so also if an atom has no more neighbors.
    """
    by_path = {path: nsel for _, nsel, path in settings.descriptor.selections}
    chosen = {
        p: automatic(statistics.most[c], n) if isinstance(n, str) else n for c, n, p in settings.descriptor.selections
    }
    for fewer, more in settings.descriptor.increasing:
        if isinstance(by_path[more], str) and chosen[more] <= chosen[fewer] < chosen[more] + 4:
            chosen[more] = 4 * (chosen[fewer] // 4 + 1)
    data = settings.model_dump()
    for path, nsel in chosen.items():
        section, name = path.split(".")
        data["descriptor"][section][name] = nsel
    return ModelSettings.read(data, "model")


def automatic(most: int, nsel: str) -> int:
    """The number that "auto" or "auto:f" stands for: f times the largest number, up to a multiple of four."""
    factor = float(nsel.partition(":")[2] or 1.1)
    return max(4, 4 * ((int(most * factor) + 3) // 4))


def no_neighbors(statistics: NeighborStatistics) -> str:
    """One sentence if no atom has a neighbor within some cutoff, empty otherwise."""
    empty = [cutoff for cutoff, most in statistics.most.items() if most == 0]
    closest = f" (the closest two are {statistics.shortest:.3g} apart)" if statistics.shortest < np.inf else ""
    what = f"no atom of the training data has a neighbor within {max(empty, default=0.0):g} Å{closest}"
    return f"{what}: coordinates in bohr or nm, or a wrong cell?" if empty else ""


def too_few(descriptor: DPA2Settings, statistics: NeighborStatistics) -> list[str]:
    """One sentence for every selection that leaves out neighbors of the data."""
    selections: list[tuple[float, Any, str]] = descriptor.selections
    short = [entry for entry in selections if isinstance(entry[1], int) and entry[1] < statistics.most[entry[0]]]
    return [
        f"model.descriptor.{path} = {nsel} is too few: atoms have up to {statistics.most[cutoff]} neighbors within"
        f" {cutoff:g} Å"
        for cutoff, nsel, path in short
    ]
