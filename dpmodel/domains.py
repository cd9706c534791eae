"""Systems that processes share: what each computes, and how programs reach the atoms of the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.padding import Sizes, pad_graph, rounded_sizes
from dpmodel.graph import Graph, Selection


class Halo(Protocol):
    """Processes that share a system, and the rows of an array that each has of the others' atoms."""

    def forward(self, rows: np.ndarray, count: int) -> np.ndarray:
        """(N, ...) of the centers to (count, ...), the ghosts' rows fetched from their owners."""

    def adjoint(self, rows: np.ndarray, count: int) -> np.ndarray:
        """(A, ...) to (count, ...) of the centers, with what other processes have in the rows of their ghosts."""


class Domains:
    """The domains of a trajectory one after another, on an engine that compiles functions once for all of them.

    ``exchange`` is part of the compiled functions and goes through the halo of the call in progress.
    """

    def __init__(self, engine: Engine, selection: Selection) -> None:
        self._rounds, self._selection = engine.rounds_shapes, selection
        self._sizes: Sizes = {}
        self._halo: Halo | None = None
        self._lock = Lock()
        self.exchange = engine.exchange(
            lambda rows, count: self._current().forward(rows, count),
            lambda rows, count: self._current().adjoint(rows, count),
        )

    def padded(self, graph: Graph) -> Graph:
        """``graph`` in rounded sizes that never shrink, so that a trajectory is soon done with compiling."""
        if not self._rounds:
            return graph
        self._sizes = rounded_sizes(graph, self._selection, self._sizes)
        return pad_graph(graph, self._selection, self._sizes)

    @contextmanager
    def through(self, halo: Halo) -> Iterator[None]:
        """Exchanges go through ``halo`` meanwhile; one domain at a time."""
        with self._lock:
            self._halo = halo
            try:
                yield
            finally:
                self._halo = None

    def _current(self) -> Halo:
        assert self._halo is not None
        return self._halo
