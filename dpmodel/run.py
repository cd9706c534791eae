"""How a model is run, as opposed to what it computes."""

from collections.abc import Callable
from dataclasses import dataclass

from dpmodel.xp import Array


def _same(x: Array) -> Array:
    return x


Rows = Callable[..., tuple[Array, ...]]


def _plain(function: Rows) -> Rows:
    return function


def _ignore(name: str, value: Array) -> None:
    del name, value


@dataclass(frozen=True)
class Run:
    """Choices of the caller that leave every number as it is.

    ``group``: atoms treated at a time (None: all); bounds the memory.
    ``exchange``: given the features of the centres (N, d), the features of all atoms (A, d); the identity in one
    process, the halo exchange under a parallel simulation engine.
    ``checkpoint``: wraps the function of one group so that its derivative recomputes rather than stores.
    ``observe``: sees intermediate results by name ("repinit", "repformer.0.g1", ...).
    """

    group: int | None = None
    exchange: Callable[[Array], Array] = _same
    checkpoint: Callable[[Rows], Rows] = _plain
    observe: Callable[[str, Array], None] = _ignore
