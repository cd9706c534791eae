"""What is in the data, and what is wrong with them, before anything is trained on them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from dpmodel.data.neighbors import find_pairs, measure
from dpmodel.data.systems import Frame, System
from dpmodel.errors import DpmodelError

REACH = 3.0  # angstrom: nobody's shortest pair is longer, except in a gas
TOO_CLOSE = 0.5  # angstrom: two thirds of the bond of H2
ABSURD_FORCE = 1e3  # eV/angstrom on one atom


@dataclass
class Report:
    """One system: ``elements`` counts atoms over all frames, ``shortest`` is in angstrom, ``problems`` name frames."""

    path: str
    n_frames: int = 0
    n_atoms: int = 0
    elements: Counter[str] = field(default_factory=Counter)
    labels: tuple[str, ...] = ()
    shortest: float = np.inf
    largest_force: float = 0.0
    problems: list[str] = field(default_factory=list)


def check_system(path: str, too_close: float = TOO_CLOSE, absurd_force: float = ABSURD_FORCE) -> Report:
    """Read all of a system; pairs closer than ``too_close`` angstrom and forces above ``absurd_force`` are problems."""
    report = Report(path)
    try:
        system = System(path)
    except DpmodelError as error:
        report.problems.append(str(error))
        return report
    report.n_frames, report.n_atoms, report.labels = system.n_frames, system.n_atoms, system.labels
    for i in range(system.n_frames):
        try:
            frame = system.frame(i)
            _look(report, system, frame, f"{path}: frame {i}", too_close, absurd_force)
        except DpmodelError as error:
            report.problems.append(str(error))
    return report


def _look(report: Report, system: System, frame: Frame, where: str, too_close: float, absurd_force: float) -> None:
    s = frame.structure
    report.elements.update(system.type_map[t] for t in s.types if t >= 0)
    edges = measure(find_pairs(s.positions, s.cell, s.pbc, REACH, s.types >= 0, where), s.positions, s.cell, REACH)
    if len(edges.distance):
        k = int(edges.distance.argmin())
        report.shortest = min(report.shortest, float(edges.distance[k]))
        if edges.distance[k] < too_close:
            pair = f"atoms {edges.centre[k]} and {edges.neighbor[k]}"
            report.problems.append(f"{where}: {pair} are {edges.distance[k]:.3g} angstrom apart")
    if "force" in frame.labels:
        size = np.linalg.norm(frame.labels["force"], axis=1) * (s.types >= 0)
        report.largest_force = max(report.largest_force, float(size.max()))
        if size.max() > absurd_force:
            report.problems.append(f"{where}: the force on atom {size.argmax()} is {size.max():.3g} eV/angstrom")
