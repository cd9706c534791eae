"""What is in the data, and what is wrong with them, before anything is trained on them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from dpmodel.data.neighbors import find_pairs, measure
from dpmodel.data.systems import System
from dpmodel.errors import DpmodelError

REACH = 3.0  # angstrom: nobody's shortest pair is longer, except in a gas
TOO_CLOSE = 0.5  # angstrom: two thirds of the bond of H2
ABSURD_FORCE = 1e3  # eV/angstrom on one atom


@dataclass
class Report:
    """One system: ``elements`` counts atoms over the ``n_counted`` frames whose types are known, ``shortest`` is in
    angstrom, ``problems`` name file and frame."""

    path: str
    n_frames: int = 0
    n_atoms: int = 0
    elements: Counter[str] = field(default_factory=Counter)
    n_counted: int = 0
    labels: tuple[str, ...] = ()
    shortest: float = np.inf
    largest_force: float = 0.0
    problems: list[str] = field(default_factory=list)


def check_system(path: str, too_close: float = TOO_CLOSE, absurd_force: float = ABSURD_FORCE) -> Report:
    """Read all of a system; pairs closer than ``too_close`` angstrom and forces above ``absurd_force`` are problems."""
    report = Report(path)
    try:
        system = System(path, problems=report.problems)
    except DpmodelError as error:
        report.problems.append(str(error))
        return report
    report.n_frames, report.n_atoms, report.labels = system.n_frames, system.n_atoms, system.labels
    missing = [file for file in system.gaps if not any(problem.startswith(file) for problem in report.problems)]
    report.problems += [f"{file}: there is no such file, but other sets of the system have it" for file in missing]
    for i in range(system.n_frames):
        try:
            counts = system.counts(i)
            report.n_counted += 1
            report.elements.update({name: int(n) for name, n in zip(system.type_map, counts, strict=True) if n})
            _look(report, system, i, too_close, absurd_force)
        except DpmodelError as error:
            report.problems.append(str(error))
    return report


def _look(report: Report, system: System, i: int, too_close: float, absurd_force: float) -> None:
    frame, where = system.frame(i), system.where(i, "coord")
    s = frame.structure
    edges = measure(find_pairs(s.positions, s.cell, s.pbc, REACH, s.types >= 0, where), s.positions, s.cell, REACH)
    if len(edges.distance):
        k = int(edges.distance.argmin())
        report.shortest = min(report.shortest, float(edges.distance[k]))
        if edges.distance[k] < too_close:
            pair = f"atoms {edges.center[k]} and {edges.neighbor[k]}"
            report.problems.append(f"{where}: {pair} are {edges.distance[k]:.3g} angstrom apart")
    if "force" in frame.labels:
        size = np.linalg.norm(frame.labels["force"], axis=1) * (s.types >= 0)
        report.largest_force = max(report.largest_force, float(size.max()))
        if size.max() > absurd_force:
            what = f"the force on atom {size.argmax()} is {size.max():.3g} eV/angstrom"
            report.problems.append(f"{system.where(i, 'force')}: {what}")
