"""The conformance kit: is this implementation of DPA-2 right?

    print(check_backend("torch"))
    print(check_callable(factory))  # factory(path of a model file) -> function(coord_ext, atype_ext, nlist, mapping)

Both draw small models over all options, and structures of all kinds; compare with the core on NumPy, term by term in
the order of computation; and for each way of failing look for the smallest case that shows it.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dpmodel.accuracy import AGREEMENT
from dpmodel.backend import Engine, backend
from dpmodel.dpa2.options import EXTENSIONS
from dpmodel.io.model import write_model
from dpmodel.testing.cases import Case
from dpmodel.testing.options import OPTIONS, Row, Space
from dpmodel.testing.report import Outcome, Report
from dpmodel.testing.structures import Extended, extended
from dpmodel.testing.terms import DERIVED, Difference, OnEngine, Terms, differences
from dpmodel.xp import Array

Subject = Callable[[Case], Iterator[Terms]]  # terms of the description, then energies and derivatives
Only = Mapping[str, Sequence[Any]]

SHRINK_SECONDS = 60.0  # at most, for each way of failing


def check_backend(
    subject: str | Engine,
    *,
    draws: int = 20,
    seed: int = 0,
    only: Only | None = None,
    tolerance: float | None = None,
    device: str | None = None,
    compile: bool | None = None,
) -> Report:
    """Check a backend: its arrays, its derivatives and, if it compiles, its compiler.

    Parameters
    ----------
    subject : str or Engine
        The name of an installed backend, or an engine that is not announced yet.
    draws, seed : int
        How many models; which ones.
    only : mapping, optional
        Choices of some options, ``{"descriptor.smooth": [True]}``; ``dpmodel.testing.OPTIONS`` lists all.
    tolerance : float, optional
        Relative to the largest number of a term; by default 1e-10, and 2e-5 where single precision is involved.
    device, compile
        As for ``dpmodel.load``.

    Raises
    ------
    BackendError
        If the backend cannot be used at all.  What goes wrong in a draw is in the report.
    """
    engine = backend(subject).engine(device, compile) if isinstance(subject, str) else subject
    return _check(OnEngine(engine), engine.name, Space(only), draws, seed, tolerance)


# what the lower interface says nothing of, or deepmd-kit does not have
LOWER: Only = {name: OPTIONS[name][:1] for name in EXTENSIONS} | {
    "fitting_net.type": ["ener"],
    "fitting_net.numb_fparam": [0],
    "fitting_net.numb_aparam": [0],
    "fitting_net.dim_case_embd": [0],
    "fitting_net.use_aparam_as_mask": [False],
    "structure.frames": ["one", "two"],
    # not "small cell": an atom's images on both sides are equally far, and slots are compared in order of distance
    "structure.boundary": ["none", "triclinic", "left-handed", "slab", "wire"],
}


def check_callable(
    factory: Callable[[Path], Callable[..., Any]],
    *,
    name: str = "callable",
    draws: int = 20,
    seed: int = 0,
    only: Only | None = None,
    tolerance: float | None = None,
    suffix: str = ".dp",
) -> Report:
    """Check anything that has deepmd-kit's lower interface, in whatever language it is written.

    Parameters
    ----------
    factory : callable
        Given the path of a model file, returns ``function(coord_ext, atype_ext, nlist, mapping)``.  That is called with
        NumPy arrays: extended coordinates (nf, nall, 3) in angstrom; their types (nf, nall), -1 for virtual atoms;
        neighbors on the extended axis (nf, nloc, nsel), nearest first, -1 in empty slots and for pairs that the model
        excludes; the local atom of each extended one (nf, nall).  Also with ``fparam`` and ``aparam`` by name, if
        ``only`` allows models that have them.  It returns a dictionary, or a tuple of the first five, of any of

        - ``descriptor`` (nf, nloc, d), ``rot_mat`` (nf, nloc, g2, 3), ``g2`` (nf, nloc, nsel, g2), ``h2``
          (nf, nloc, nsel, 3), ``sw`` (nf, nloc, nsel);
        - ``atom_energy`` (nf, nloc), ``energy`` (nf,), eV, ``force`` (nf, nloc, 3) or ``extended_force``
          (nf, nall, 3), eV/angstrom, ``virial`` (nf, 3, 3), eV;
        - intermediate results (nf, nloc, d) by the names in a report of ``check_backend``: the more there are, the
          closer the report comes to a mistake.
    name : str
        Of the implementation, for the report.
    suffix : str
        Kind of model file: ".dp", ".yaml" or ".pt".
    draws, seed, only, tolerance
        As for ``check_backend``.  Unless ``only`` says otherwise, models predict energies and have nothing that
        deepmd-kit does not have.
    """
    return _check(Lower(factory, suffix), name, Space({**LOWER, **(only or {})}), draws, seed, tolerance)


class Lower:
    """A callable with the lower interface as a subject."""

    def __init__(self, factory: Callable[[Path], Callable[..., Any]], suffix: str) -> None:
        self.factory, self.suffix = factory, suffix

    def __call__(self, case: Case) -> Iterator[Terms]:
        inputs = extended(case.structures, case.graph, case.selection.widest.nsel)
        parameters = {
            name: np.stack([getattr(s, name) for s in case.structures])
            for name in ("fparam", "aparam")
            if getattr(case.structures[0], name) is not None
        }
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model{self.suffix}"
            write_model(path, case.model)
            outputs = self.factory(path)(*inputs, **parameters)
        if isinstance(outputs, tuple):
            outputs = dict(zip(("descriptor", "rot_mat", "g2", "h2", "sw"), outputs[:5], strict=True))
        terms = flat({name: _numpy(value) for name, value in outputs.items() if value is not None}, inputs)
        for derived in (False, True):
            yield {name: value for name, value in terms.items() if (name in DERIVED) == derived}


def flat(outputs: Terms, inputs: Extended) -> Terms:
    """Terms of the lower interface as those of the core: atoms of all frames on one axis."""
    n_frames, n_local = inputs.nlist.shape[:2]
    if "sw" in outputs:
        outputs["switch"] = outputs.pop("sw").reshape(n_frames, n_local, -1)
    if "extended_force" in outputs:
        extended_force = outputs.pop("extended_force").reshape(inputs.coord.shape)
        force = np.zeros((n_frames, n_local, 3))
        np.add.at(force, (np.arange(n_frames)[:, None], inputs.mapping), extended_force)
        outputs.setdefault("force", force)
        outputs.setdefault("virial", np.einsum("fik,fil->fkl", extended_force, inputs.coord))
    shapes = {"energy": (n_frames,), "virial": (n_frames, 3, 3), "atom_energy": (n_frames * n_local,)}
    return {name: _reshaped(value, shapes.get(name), (n_frames, n_local)) for name, value in outputs.items()}


def _reshaped(value: Array, shape: tuple[int, ...] | None, lead: tuple[int, int]) -> Array:
    """``value`` in ``shape``, or with its leading axes (nf, nloc) as one; as it is where neither fits."""
    if shape is not None:
        return value.reshape(shape) if value.size == np.prod(shape) else value
    return value.reshape(-1, *value.shape[2:]) if value.shape[:2] == lead else value


def _numpy(x: Any) -> Array:
    """An array of any library, on the CPU and without its derivative."""
    for method in ("detach", "cpu"):
        x = getattr(x, method, lambda x=x: x)()
    return np.asarray(x)


def _check(subject: Subject, name: str, space: Space, draws: int, seed: int, tolerance: float | None) -> Report:
    examiner = Examiner(subject, space, tolerance)
    rows = space.draw(draws, seed)
    outcomes = [examiner.outcome(row, seed + i) for i, row in enumerate(rows)]
    return Report(name, outcomes, examiner.findings(rows, outcomes))


class Examiner:
    """Puts cases to a subject, and looks for the smallest that it fails."""

    def __init__(self, subject: Subject, space: Space, tolerance: float | None) -> None:
        self.subject, self.space, self.tolerance = subject, space, tolerance
        self.core, self.exact = (OnEngine(backend("numpy").engine(), exact=exact) for exact in (False, True))

    def outcome(self, row: Row, seed: int) -> Outcome:
        case, compared, error = Case(self.space.values(row), seed), list[Difference](), ""
        allowed = self.tolerance or AGREEMENT["float32" if case.is_single else "float64"]
        try:
            rights, exact = tee(self.core(case))
            if case.is_single:
                exact = self.exact(case)
            for right, terms, unrounded in zip(rights, self.subject(case), exact, strict=False):
                compared += differences(terms, right, unrounded, case, allowed)
                if not all(d.ok for d in compared):
                    break  # what follows from it is no news
        except Exception as caught:  # noqa: BLE001  what is wrong with the subject is the result
            frame = traceback.extract_tb(caught.__traceback__)[-1]
            error = f"{type(caught).__name__}: {caught} ({frame.filename}:{frame.lineno})"
        if not compared and not error:
            error = "nothing to compare: none of the terms was given"
        return Outcome(case, self.space.beyond_plain(row), compared, error)

    def findings(self, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """For each way of failing, the smallest case that shows it."""
        failures: dict[str, Outcome] = {}
        for row, failed in zip(rows, outcomes, strict=True):
            if failed.ok or failed.kind in failures:
                continue
            double = row | {"descriptor.precision": 0, "fitting_net.precision": 0}  # shows more, if it shows anything
            sharper = self.outcome(double, failed.case.seed)
            start = (row, failed) if sharper.ok else (double, sharper)
            if start[1].kind not in failures:
                failures[start[1].kind] = self.smallest(*start)
        return list(failures.values())

    def smallest(self, row: Row, failure: Outcome) -> Outcome:
        """The plainest near ``row`` that fails in the same way: whole sections are made plain first, then options."""
        deadline = time.monotonic() + SHRINK_SECONDS
        sections: dict[str, list[str]] = {}
        for name in row:
            sections.setdefault(name.rpartition(".")[0], []).append(name)
        steps = [dict.fromkeys(names, 0) for names in sections.values()]
        steps += [{name: choice} for name, chosen in row.items() for choice in range(chosen)]
        changed = True
        while changed:
            changed = False
            for step in steps:
                plainer = {name: min(i, step.get(name, i)) for name, i in row.items()}
                if plainer != row and self.space.is_valid(plainer) and time.monotonic() < deadline:
                    tried = self.outcome(plainer, failure.case.seed)
                    if tried.kind == failure.kind:
                        row, failure, changed = plainer, tried, True
        return failure
