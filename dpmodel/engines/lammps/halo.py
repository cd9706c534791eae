"""Atoms of other processes: who has them, and how rows of arrays travel between the processes that share a system.

All follows from atom IDs.  The process ``ID % size`` is the directory of an ID: owners announce themselves
there, and whoever sees the atom asks there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpmodel.errors import DpmodelError
from dpmodel.xp import Array

Comm = Any


class Halo:
    """The atoms that this process sees and others own; see ``dpmodel.domains.Halo``.

    All processes of ``comm`` make one together, and call its methods together, those without atoms, too.

    ``foreign``: (g,) IDs of the ghosts in the order of their rows, which follow those of the centers.
    """

    def __init__(self, comm: Comm, own: Array, foreign: Array) -> None:
        """``own`` (n,): IDs of the atoms of this process; ``foreign`` (g,): those it sees of others, each once."""
        self.comm = comm
        owner = self._owners(own, foreign)
        requests = [foreign[owner == rank] for rank in range(comm.size)]
        self.foreign = np.concatenate(requests)
        self._sent = [_find(own, ids) for ids in _all_to_all(comm, requests)]
        self._n_received, self._n_sent = (np.array([len(part) for part in parts]) for parts in (requests, self._sent))

    def _owners(self, own: Array, foreign: Array) -> Array:
        """(g,) the process that has each foreign atom."""
        size = self.comm.size
        announced = _all_to_all(self.comm, [own[own % size == rank] for rank in range(size)])
        announced_ids = np.concatenate(announced)
        owner = np.repeat(np.arange(size), [len(ids) for ids in announced])
        questions = _all_to_all(self.comm, [foreign[foreign % size == rank] for rank in range(size)])
        answers = _all_to_all(self.comm, [owner[_find(announced_ids, ids)] for ids in questions])
        result = np.empty(len(foreign), dtype=np.int64)
        for rank in range(size):
            result[foreign % size == rank] = answers[rank]
        return result

    def forward(self, rows: Array, count: int) -> Array:
        """(n, ...) to (count, ...): these rows, then the ghosts', then zeros."""
        result = np.zeros((count, *rows.shape[1:]), rows.dtype)
        result[: len(rows)] = rows
        sent = np.concatenate([rows[index] for index in self._sent])
        received = self._travel(sent, self._n_sent, self._n_received)
        result[len(rows) : len(rows) + len(received)] = received
        return result

    def adjoint(self, rows: Array, count: int) -> Array:
        """(A, ...) to (count, ...): the first rows, and what others have in the rows of their ghosts added to them."""
        result = rows[:count].copy()
        received = self._travel(rows[count : count + len(self.foreign)], self._n_received, self._n_sent)
        for index, part in zip(self._sent, np.split(received, np.cumsum(self._n_sent)[:-1]), strict=True):
            result[index] += part  # a process sees an atom once, so that no index comes twice
        return result

    def _travel(self, sent: Array, to: Array, received: Array) -> Array:
        """Rows to and from every process, ``to`` and ``received`` (size,) of them."""
        result = np.empty((received.sum(), *sent.shape[1:]), sent.dtype)
        from mpi4py import MPI  # here: tables of LAMMPS' styles are read where there is no MPI

        row = MPI.BYTE.Create_contiguous(sent.dtype.itemsize * int(np.prod(sent.shape[1:]))).Commit()
        try:
            self.comm.Alltoallv(
                [np.ascontiguousarray(sent), to, np.cumsum(to) - to, row],
                [result, received, np.cumsum(received) - received, row],
            )
        finally:
            row.Free()
        return result


def _find(ids: Array, requested: Array) -> Array:
    """The positions of the ``requested`` among ``ids``; raises DpmodelError if one is not there."""
    order = np.argsort(ids, kind="stable")
    position: Array = np.searchsorted(ids, requested, sorter=order)
    missing = position == len(ids)
    if len(ids):
        position = order[np.where(missing, 0, position)]
        missing |= ids[position] != requested
    if missing.any():
        raise DpmodelError(f"no process has atom {requested[missing][0]}: have atoms been lost?")
    return position


def _all_to_all(comm: Comm, parts: Sequence[Array]) -> list[Array]:
    """Part ``r`` goes to process ``r``."""
    return comm.alltoall(list(parts))
