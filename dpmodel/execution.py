"""How a model is run, as opposed to what it computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dpmodel.xp import Array, namespace, shape


def _same(x: Array, count: int) -> Array:
    del count
    return x


Rows = Callable[..., tuple[Array, ...]]  # of arrays with a row an atom, which treats every row alone
Exchange = Callable[[Array, int], Array]
Loop = Callable[[Rows, Sequence[Array], int], tuple[Array, ...]]


def _plain(function: Rows) -> Rows:
    return function


Widths = tuple[tuple[str, int], ...]  # of the blocks' neighbor axes, by name


@dataclass(frozen=True)
class Bin:
    """Atoms of like neighbor counts: how many, and how wide their arrays have to be in each block."""

    size: int
    widths: Widths


def in_turn(function: Rows, rows: Sequence[Array], size: int) -> tuple[Array, ...]:
    """``function(*rows)`` on at most ``size`` rows at a time, by a loop in Python."""
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

    ``group``: atoms treated at a time (None: all); bounds the memory.
    ``loop``: how group follows upon group, ``in_turn`` or what a compiler can make one program of.
    ``exchange``: given the features of the centers (N, d) and the number of atoms A, the features of all atoms (A, d);
    the identity in one process, the halo exchange under a parallel simulation engine.
    ``checkpoint``: wraps the function of one group so that its derivative recomputes rather than stores, unless there
    are no more than ``remember`` atoms.
    ``bins``: how many atoms to treat in arrays of which widths, in the order of their counts of neighbors
    (``dpmodel.dpa2.bins``); none: all in arrays as wide as they come.
    ``most_bins``: how many bins are worth while.
    ``observe``: sees intermediate results by name ("g1", "rot_mat", ...).
    """

    group: int | None = None
    loop: Loop = in_turn
    exchange: Exchange = _same
    checkpoint: Callable[[Rows], Rows] = _plain
    remember: int = 0
    bins: tuple[Bin, ...] = ()
    most_bins: int = 1
    observe: Callable[[str, Array], None] = _ignore

    @property
    def observed(self) -> bool:
        return self.observe is not _ignore

    def in_groups(self, function: Rows, rows: Sequence[Array], *shared: Array) -> tuple[Array, ...]:
        """``function(*shared, *rows)``, a group at a time."""
        count = shape(rows[0])[0]
        function = partial(function if count <= self.remember else self.checkpoint(function), *shared)
        if self.group is None or count <= self.group:
            return function(*rows)
        return self.loop(function, rows, self.group)
