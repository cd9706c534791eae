"""The examination of data before a model is trained on them: their contents, and what is wrong with them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from dpmodel.data.elements import RADII
from dpmodel.data.labels import label_name
from dpmodel.data.neighbors import find_pairs, measure
from dpmodel.data.sources import Source, source
from dpmodel.data.systems import GEOMETRY, System
from dpmodel.data.units import SAMPLE, doubts, remote
from dpmodel.errors import DpmodelError

REACH = 3.0  # angstrom: nobody's shortest pair is longer, except in a gas
TOO_CLOSE = 0.5  # angstrom: two thirds of the bond of H2
ABSURD_FORCE = 1e3  # eV/angstrom on one atom


@dataclass
class Report:
    """One system: ``elements`` counts atoms over the ``n_counted`` frames whose types are known; ``shortest`` pair in
    angstrom and ``closest`` one in sums of covalent radii; ``problems`` name file and frame, ``remarks`` are doubts."""

    path: str
    n_frames: int = 0
    n_atoms: int = 0
    elements: Counter[str] = field(default_factory=Counter)
    n_counted: int = 0
    labels: tuple[str, ...] = ()
    shortest: float = np.inf
    closest: float = np.inf
    largest_force: float = 0.0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Turn an error that is raised inside into a problem, once."""
        try:
            yield
        except DpmodelError as error:
            self.problems += [str(error)] if str(error) not in self.problems else []


def check_system(path: str, too_close: float = TOO_CLOSE, absurd_force: float = ABSURD_FORCE) -> Report:
    """Read all of a system; pairs closer than ``too_close`` angstrom and forces above ``absurd_force`` are problems."""
    report = Report(path)
    with report.collecting(), np.errstate(over="ignore", invalid="ignore"):
        _fill(report, source(path), too_close, absurd_force)
    return report


def _fill(report: Report, files: Source, too_close: float, absurd_force: float) -> None:
    """Array after array by itself, then what can be used of each set."""
    names, good = {}, {}
    for folder in files.sets():
        names[folder] = [name for name in dict.fromkeys(map(label_name, files.arrays(folder))) if name not in GEOMETRY]
        usable = []
        for name in names[folder]:
            with report.collecting():
                System(files, None, [name], [folder])
                usable.append(name)
        with report.collecting():
            System(files, None, (), [folder])
            good[folder] = usable
    system = System(files, None, (), list(good))
    report.n_frames, report.n_atoms = system.n_frames, system.n_atoms
    report.labels = tuple(sorted({name for usable in good.values() for name in usable}))
    for path in [f"{files.path}/{f}/{name}.npy" for f in good for name in report.labels if name not in names[f]]:
        report.problems.append(f"{path}: there is no such file, but other sets of the system have it")
    for folder, usable in good.items():
        _read_set(report, System(files, None, usable, [folder]), too_close, absurd_force)
    if system.unnamed:
        numbers = ", ".join(system.type_map)
        report.remarks.append(f"there is no type_map.raw: {numbers} are the numbers of types in a model's type_map")
        report.elements = Counter({f"type {number}": n for number, n in report.elements.items()})
    report.remarks += list(filter(None, [remote(report.closest, system.n_atoms)]))
    report.remarks = [f"{files.path}: {remark}" for remark in report.remarks]


def _read_set(report: Report, system: System, too_close: float, absurd_force: float) -> None:
    for i in range(system.n_frames):
        with report.collecting():
            counts = system.counts(i)
            report.n_counted += 1
            report.elements.update({name: int(n) for name, n in zip(system.type_map, counts, strict=True) if n})
        for name in system.labels_of(i):
            with report.collecting():
                _look_at_label(report, system, i, name, absurd_force)
        with report.collecting():
            _look_at_atoms(report, system, i, too_close)
    with report.collecting():
        frames = (system.frame(i) for i in range(min(system.n_frames, SAMPLE)))
        report.remarks += [odd for odd in [doubts(frames)] if odd and odd not in report.remarks]


def _look_at_label(report: Report, system: System, i: int, name: str, absurd_force: float) -> None:
    values = system.label(i, name)
    if name == "force":
        size = np.linalg.norm(values, axis=1) * (system.types(i) >= 0)
        report.largest_force = max(report.largest_force, float(size.max()))
        if size.max() > absurd_force:
            what = f"the force on atom {size.argmax()} is {size.max():.3g} eV/Å"
            report.problems.append(f"{system.where(i, 'force')}: {what}")


def _look_at_atoms(report: Report, system: System, i: int, too_close: float) -> None:
    s, where = system.structure(i), system.where(i, "coord")
    edges = measure(find_pairs(s.positions, s.cell, s.pbc, REACH, s.types >= 0, where), s.positions, s.cell, REACH)
    radii = np.array([RADII.get(name, np.nan) for name in system.type_map])[s.types]
    bonds = radii[edges.center] + radii[edges.neighbor]
    report.closest = float(np.minimum(report.closest, np.min(edges.distance / bonds, initial=np.inf)))
    if np.isnan(radii).any():
        report.closest = np.nan
    if len(edges.distance):
        k = int(edges.distance.argmin())
        report.shortest = min(report.shortest, float(edges.distance[k]))
        if edges.distance[k] < too_close:
            pair = f"atoms {edges.center[k]} and {edges.neighbor[k]}"
            report.problems.append(f"{where}: {pair} are {edges.distance[k]:.3g} Å apart")
