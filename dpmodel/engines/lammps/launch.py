"""The command ``dpmodel lammps``: LAMMPS on an ordinary script, in which ``pair_style dpmodel`` works.

This module imports LAMMPS.  dpmodel is BSD-3-Clause, LAMMPS is GPL-2: running the two together, or passing them on
together, falls under the license of LAMMPS.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

from lammps import MPIAbortException, lammps  # isort: skip

from dpmodel.engines.lammps.library import abort, communicator, end_with_launcher, flush
from dpmodel.engines.lammps.pair import install
from dpmodel.engines.lammps.plugin import STYLE
from dpmodel.engines.lammps.styles import advice
from dpmodel.errors import DpmodelError, InputError


def run(arguments: Sequence[str]) -> None:
    """LAMMPS with its own command-line ``arguments``, ``-in`` among them, on all processes of MPI.

    Without ``-in`` the script is read from standard input.

    Raises
    ------
    DpmodelError
        If something cannot be used: on the first process, while the others exit with code 2.  LAMMPS' own errors end
        the program with exit code 1.
    """
    comm = MPI.COMM_WORLD
    end_with_launcher(comm)
    is_shown = False  # errors of LAMMPS, on the screen
    try:
        with tempfile.TemporaryFile() as typed:
            path = _script(arguments, comm, typed)
            lmp = _started(["-nocite", *arguments], comm)
            comm = communicator(lmp)  # of this partition, if there are several
            is_shown = comm.size == MPI.COMM_WORLD.size and not {"-screen", "-sc"} & set(arguments)
            install(lmp, exits=True, suffix=_partition(comm))
            lmp.file(path)
            lmp.close()
    except DpmodelError as error:
        if comm.size < MPI.COMM_WORLD.size:
            _stop(comm, error)
        if comm.rank:
            sys.exit(2)
        raise
    except Exception as error:  # noqa: BLE001  no process may be left waiting
        _stop(comm, error, is_shown)


def _script(arguments: Sequence[str], comm: Any, typed: Any) -> str:
    """The path of the script, which is ``typed``, an open file, if it comes from standard input."""
    for name, value in pairwise(arguments):
        if name in ("-in", "-i"):
            return value
    text = b"" if comm.rank or sys.stdin.isatty() else sys.stdin.buffer.read()
    typed.write(text)
    typed.flush()
    if not comm.bcast(bool(text.strip())):
        raise InputError("there is no script: dpmodel lammps -in in.file [other switches of LAMMPS]")
    return f"/dev/fd/{typed.fileno()}"


def _started(switches: Sequence[str], comm: Any) -> Any:
    """LAMMPS with its ``switches`` on the processes of ``comm``.

    Every process prints on its own why it cannot start; that is caught, and becomes the exception LAMMPS lacks here.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        screen = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            lmp = lammps(cmdargs=list(switches), comm=comm)
        except RuntimeError:
            lmp = None
        finally:
            flush()
            os.dup2(screen, 2)
            os.close(screen)
        said.seek(0)
        message = said.read().removeprefix("LAMMPS Exception: ").rstrip()
    if lmp is None:
        raise (MPIAbortException if "ERROR on proc" in message else Exception)(message)
    if message:
        sys.stderr.write(message + "\n")
    return lmp


def _partition(comm: Any) -> str:
    """The end of the name of a file that every partition writes, as LAMMPS' logs have it: ``.0``, or nothing."""
    world = MPI.COMM_WORLD
    first = comm.bcast(world.rank)
    return "" if comm.size == world.size else f".{sorted(set(world.allgather(first))).index(first)}"


def _stop(comm: Any, error: Exception, is_shown: bool = False) -> NoReturn:
    """End the program after an error of LAMMPS, which may be on the screen, or of one partition, or after a bug."""
    flush()
    is_ours = isinstance(error, DpmodelError)
    by_all = is_ours or type(error) is Exception  # LAMMPS' class for what every process meets
    message = str(getattr(error, "message", error)).removeprefix("ERROR: ")  # printed, one class has it in quotes
    if not by_all and not isinstance(error, MPIAbortException):
        traceback.print_exception(error)
    elif comm.rank == 0 or not by_all:
        sys.stderr.write(f"error: {message}\n" if is_ours else _lammps_error(message, is_shown))
    code = 2 if is_ours else 1
    if not by_all or comm.size < MPI.COMM_WORLD.size:
        abort(MPI.COMM_WORLD, code)
    sys.exit(code)


def _lammps_error(message: str, is_shown: bool) -> str:
    """The lines for an error of LAMMPS: nothing that LAMMPS has shown where this is printed, too."""
    hint = advice(message)
    if "deepmd" in message.partition("Last input line:")[2].split():
        hint = f"Write 'pair_style {STYLE} model.dp' in place of 'pair_style deepmd model.pb': the rest is the same"
    is_together = MPI.COMM_WORLD.size > 1 or os.path.sameopenfile(1, 2)  # a launcher forwards both to one place
    lines = [] if is_shown and is_together else [f"error: LAMMPS: {message}"]
    return "".join(f"{line}\n" for line in [*lines, *([hint] if hint else [])])
