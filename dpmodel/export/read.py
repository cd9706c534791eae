"""Exported files as potentials: the same questions, answered by the program in the file."""

import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpmodel.data.graph import build_graph
from dpmodel.data.structure import Structure
from dpmodel.errors import BackendError, FileError, InputError, NeighborOverflowWarning
from dpmodel.evaluator import Wants
from dpmodel.export.forms import FORMS, Program, exporter_of
from dpmodel.export.record import Record, output_name, read_record
from dpmodel.graph import Graph
from dpmodel.io.files import damaged
from dpmodel.model.predict import EnergyForces
from dpmodel.prediction import Prediction, expect_finite

ONLY = "an exported file gives energies, forces and virials, and no {what}: load the model that it was made from"
UNTRUSTED = (
    "{path}: an exported file holds a program, which could do anything: to run it, if you trust it, say trusted=True "
    "or --trust"
)


class ProgramEvaluator:
    """Asks a program what ``dpmodel.evaluator.Evaluator`` asks a model; one structure at a time."""

    def __init__(self, record: Record, program: Program) -> None:
        self.record, self.program = record, program
        self.selection = record.selection

    def evaluate(self, frames: Sequence[Structure], wants: Wants, *, strict: bool) -> Iterator[list[Prediction]]:
        """Predictions of all frames, one each."""
        for f, frame in enumerate(frames):
            graph = build_graph([frame], self.selection, strict=strict, first_frame=f)
            yield self.predictions([frame], graph, wants, f)

    def predictions(
        self, frames: Sequence[Structure], graph: Graph, wants: Wants, first_frame: int = 0
    ) -> list[Prediction]:
        """The prediction of the one frame of ``graph``."""
        [frame] = frames
        if wants.hessian:
            raise InputError(ONLY.format(what="Hessian"))
        if wants.uncertainty:
            raise InputError(ONLY.format(what="uncertainty"))
        if wants.atom_virial == "dense":
            raise InputError(ONLY.format(what="atomic virials of deepmd-kit's dense kind"))
        numbers = self.program(frame, graph)
        made = [Prediction(**self._fields(frame, numbers, wants))]
        expect_finite(made, graph, frame.positions, self.selection.cutoff, first_frame)
        return made

    def _fields(self, frame: Structure, numbers: dict[str, Any], wants: Wants) -> dict[str, Any]:
        if self.record.settings.fitting_net.type != "ener":
            return {"outputs": self._outputs(frame, numbers["output"])}
        names = ["energy", "atom_energy"]
        names += ["forces", "virial"] if wants.forces else []
        names += ["atom_virial"] if wants.atom_virial else []
        return {name: np.asarray(numbers[name], dtype=float)[None] for name in names}

    def evaluate_domain(self, graph: Graph, positions: np.ndarray, *, halo: Any) -> EnergyForces:
        """See ``dpmodel.evaluator.Evaluator``; of a process that has the whole system."""
        if len(graph.types) > len(graph.neighbors):
            raise InputError("an exported file runs in one process: several need the model that it was made from")
        types = np.where(graph.types == self.selection.n_types, -1, graph.types)
        fparam = None if graph.fparam is None else graph.fparam[0]
        numbers = self.program(Structure(positions, types, None, np.zeros(3, bool), fparam, graph.aparam), graph)
        one = {name: np.asarray(numbers[name])[None] for name in ("energy", "virial")}
        return EnergyForces(**(numbers | one))

    def _outputs(self, frame: Structure, atomic: np.ndarray) -> dict[str, np.ndarray]:
        settings = self.record.settings
        name, total = output_name(settings), atomic.sum(axis=0)
        if getattr(settings.fitting_net, "intensive", False):
            counted = np.isin(frame.types, (-1, *settings.atom_exclude_types), invert=True).sum()
            total = total / max(1, counted)
        return {name: total[None], f"atom_{name}": atomic[None]}

    def __getattr__(self, what: str) -> Any:
        raise InputError(ONLY.format(what=what.replace("_", " ")))


class Exported:
    """Stands in the place of a model file: settings, and no arrays."""

    def __init__(self, record: Record) -> None:
        self.settings = record.settings

    def __getattr__(self, what: str) -> Any:
        raise InputError(ONLY.format(what=what.replace("_", " ")))


class Runtime(NamedTuple):
    """Stands in the place of an engine."""

    name: str
    device: str


def load_program(
    path: str | PathLike[str], backend: str = "numpy", device: str | None = None, *, trusted: bool, fixed: Any = None
) -> tuple[Any, Any, Any]:
    """File, engine and evaluator of a ``Potential`` that runs the program in ``path``, after its own test.

    Raises FileError if it is not ``trusted`` or does not pass, BackendError for another backend than its own,
    InputError for what is ``fixed`` since it was written: head, precision, compile.
    """
    if not trusted:
        raise FileError(UNTRUSTED.format(path=path))
    if fixed:
        raise InputError(f"{path}: head, precision and compilation of an exported file are what they are")
    record = read_record(path)
    own = FORMS[record.form].backend if record.form in FORMS else backend
    if backend not in ("numpy", own):
        raise BackendError(f"{path}: an exported file for {record.form} runs on {own}, not on {backend}")
    record, program = open_program(path, device)
    passed(path, record, program)
    return Exported(record), Runtime(f"{record.form} ({own})", program.device), ProgramEvaluator(record, program)


def open_program(path: str | PathLike[str], device: str | None = None) -> tuple[Record, Program]:
    """The record and the program of an exported file; the program is loaded.  Only for files that are trusted."""
    record = read_record(path)
    if record.form not in FORMS:
        raise FileError(f"{path}: expected one of the forms {', '.join(FORMS)}, found {record.form!r}")
    exporter = exporter_of(record.form)
    try:
        with damaged(path, f"program for {record.form}"):
            return record, exporter.read(Path(fspath(path)), record, device)
    except FileError as error:
        here, wrote = {"dpmodel": version("dpmodel"), **exporter.versions()}, record.versions
        other = [f"{name} {wrote[name]} (here: {here.get(name)})" for name in wrote if wrote[name] != here.get(name)]
        extra = f"; written with {', '.join(other)}" if other else ""
        raise FileError(f"{error}{extra}") from None


def passed(path: str | PathLike[str], record: Record, program: Program) -> float:
    """The largest relative difference from the answers in the file.  Raises FileError where it is too large."""
    graph = build_graph_quietly(record)
    wants = Wants(atom_virial="edges" if record.settings.fitting_net.type == "ener" else None)
    try:
        [prediction] = ProgramEvaluator(record, program).predictions([record.structure], graph, wants)
    except (InputError, BackendError):
        raise
    except Exception as error:  # noqa: BLE001  a program may raise anything
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise FileError(f"{path}: the program in it does not run: {line}") from None
    worst = 0.0
    for name, right in record.answers.items():
        value = prediction.outputs[name][0] if prediction.outputs else getattr(prediction, name)[0]
        scale = float(np.abs(right).max()) or 1.0
        relative = float(np.abs(value - right).max()) / scale if value.shape == right.shape else np.inf
        if not relative <= record.tolerance:
            raise FileError(
                f"{path}: the program in it does not pass its own test: {name} differ by {relative:.1e} of the largest"
                f" number, allowed is {record.tolerance:g}"
            )
        worst = max(worst, relative)
    return worst


def build_graph_quietly(record: Record) -> Graph:
    """The graph of the test; it may well have more neighbors than the model keeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        return build_graph([record.structure], record.selection)


def trial(path: str | PathLike[str], device: str | None = None) -> dict[str, float]:
    """Load an exported file and run its test, with the times."""
    start = time.perf_counter()
    record, program = open_program(path, device)
    loaded = time.perf_counter()
    worst = passed(path, record, program)
    return {"load_seconds": loaded - start, "first_seconds": time.perf_counter() - loaded, "worst": worst}
