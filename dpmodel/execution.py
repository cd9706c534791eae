"""The execution of a model: how it is run, as opposed to what it computes."""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

from dpmodel.xp import Array, namespace, shape


def _same(x: Array, count: int) -> Array:
    del count
    return x


Rows = Callable[..., tuple[Array, ...]]  # of arrays with a row an atom, which treats every row alone
Exchange = Callable[[Array, int], Array]
Prepare = Callable[..., Sequence[Array]]  # of rows, to other rows of the same atoms


class Loop(Protocol):
    def __call__(
        self, function: Rows, rows: Sequence[Array], size: int, prepare: Prepare | None = None
    ) -> tuple[Array, ...]: ...


def _plain(function: Rows) -> Rows:
    return function


def one_by_one(function: Callable[[Any, Any], Any], layers: Sequence[Any], x: Any) -> Any:
    """``x`` after ``function(layer, x)`` of every layer."""
    for layer in layers:
        x = function(layer, x)
    return x


REMEMBERED = 1024  # atoms whose derivatives take some 2 GB, with the medium model of deepmd-kit's examples
Widths = tuple[tuple[str, int], ...]  # of the blocks' neighbor axes, by name


@dataclass(frozen=True)
class Bin:
    """Atoms of like neighbor counts: how many, and how wide their arrays have to be in each block."""

    size: int
    widths: Widths


def in_turn(function: Rows, rows: Sequence[Array], size: int, prepare: Prepare | None = None) -> tuple[Array, ...]:
    """``function(*rows)`` on at most ``size`` rows at a time, by a loop in Python.

    ``prepare`` sees all rows at once: the derivative of a gather fills an array as large as what it gathers from.
    """
    rows = rows if prepare is None else prepare(*rows)
    count = shape(rows[0])[0]
    size = even(count, size)
    parts = [function(*[x[i : i + size, ...] for x in rows]) for i in range(0, count, size)]
    return tuple(namespace(column[0]).concat(list(column), axis=0) for column in zip(*parts, strict=True))


def even(count: int, most: int) -> int:
    """The size of groups of at most ``most`` that ``count`` rows fill evenly."""
    return -(-count // -(-count // most))


def _ignore(name: str, value: Array) -> None:
    del name, value


@dataclass(frozen=True)
class Execution:
    """Choices of the caller that leave every number as it is.

    ``group``: atoms treated at a time (None: all).
    ``loop``: how group follows upon group, ``in_turn`` or what a compiler can make one program of.
    ``repeat``: how layer follows upon layer, ``one_by_one`` or what a tracer sees once for all of them; what a layer
    changes are nested tuples of arrays.
    ``exchange``: given the features of the centers (N, d) and the number of atoms A, the features of all atoms (A, d);
    the identity in one process, the halo exchange under a parallel simulation engine.
    ``checkpoint``: wraps the function of a bin so that its derivative recomputes rather than stores; not worth while
    for graphs of up to ``remember`` atoms (``dpmodel.dpa2.bins.planned``).
    ``bins``: how many atoms to treat in arrays of which widths, in the order of their counts of neighbors
    (``dpmodel.dpa2.bins``); none: all in arrays as wide as they come.
    ``most_bins``: how many bins are worth while; their widths are multiples of ``step``, or the widest.
    ``observe``: sees intermediate results by name ("g1", "rot_mat", ...).
    """

    group: int | None = None
    loop: Loop = in_turn
    repeat: Callable[[Callable[[Any, Any], Any], Sequence[Any], Any], Any] = one_by_one
    exchange: Exchange = _same
    checkpoint: Callable[[Rows], Rows] = _plain
    remember: int = 0
    bins: tuple[Bin, ...] = ()
    most_bins: int = 1
    step: int = 1
    observe: Callable[[str, Array], None] = _ignore

    @property
    def observed(self) -> bool:
        return self.observe is not _ignore

    def in_groups(
        self, function: Rows, rows: Sequence[Array], *shared: Array, prepare: Prepare | None = None
    ) -> tuple[Array, ...]:
        """``function(*rows)``, a group at a time; rows are first made by ``prepare(*shared, *rows)`` if it is given.

        Arrays that derivatives flow to are among the ``rows`` and the ``shared`` ones.
        """

        def run(*x: Array) -> tuple[Array, ...]:
            first, others = x[: len(shared)], x[len(shared) :]
            make = None if prepare is None else partial(prepare, *first)
            each = partial(function, *first) if prepare is None else function
            if self.group is not None and shape(others[0])[0] > self.group:
                return self.loop(each, others, self.group, make)
            return each(*(others if make is None else make(*others)))

        return self.checkpoint(run)(*shared, *rows)


KEEP_FREED = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: up to 2 GB at the end of the heap stay with the process
    -4: 0,  # M_MMAP_MAX: large blocks come from the heap
    -8: 1,  # M_ARENA_MAX: from the same one in all threads, for others cannot grow large
}


@cache
def keep_freed_memory() -> None:
    """Ask the C library to keep what arrays give back, unless the environment (``MALLOC_...``) says what it is to do.

    An evaluation takes hundreds of megabytes.  glibc returns large blocks to the system as soon as they are free, and
    the next evaluation waits while the system makes the same pages again and fills them with zeros: a sixth of the time
    of NumPy's forces, two fifths of JAX's.  Other C libraries are left as they are.  To be called before threads start.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in KEEP_FREED.items():
            mallopt(parameter, value)
