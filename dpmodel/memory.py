"""Memory: how much a graph takes, and what to do where that is too much: derivatives are recomputed, not remembered."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dpmodel.backend import Engine
from dpmodel.dpa2.bins import planned
from dpmodel.dpa2.need import Need, need
from dpmodel.errors import BackendError, InputError, OutOfMemoryWarning
from dpmodel.execution import Bin, Execution
from dpmodel.graph import Graph

T = TypeVar("T")
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SMALLEST = 8  # atoms: with smaller groups the cost grows and the memory does not shrink
GIVEN_UP = "not enough memory, though derivatives are recomputed for {0} atoms at a time: take fewer atoms"
LESS = "not enough memory for {0} atoms at once: from now on derivatives are recomputed, for {1} atoms at a time"
SHARED = 'not enough memory for {0} atoms in this process: give memory="..." less than there is, or more processes'


def bytes_of(memory: str | float) -> float:
    """The bytes of "4GB", "500 MB", "2GiB", ...; numbers are bytes already.  Raises InputError."""
    if not isinstance(memory, str):
        number, unit = float(memory), ""
    else:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?I?)B?\s*", memory.upper())
        if match is None or match[1].count(".") > 1 or match[1] == ".":
            raise InputError(f'memory should be like "4GB", got {memory!r}')
        number, unit = float(match[1]), match[2]
    if unit not in UNITS or number <= 0.0:
        raise InputError(f'memory should be like "4GB", got {memory!r}')
    return number * UNITS[unit]


def available() -> float | None:
    """Bytes of the machine that nobody uses, or that the container leaves; None where that cannot be asked."""
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        free = float(match[1]) * 1024 if match else None
        limit = Path("/sys/fs/cgroup/memory.max")
        if free is not None and limit.exists() and (most := limit.read_text(encoding="ascii").strip()).isdigit():
            used = limit.with_name("memory.current").read_text(encoding="ascii")
            free = min(free, float(most) - float(used))
    except OSError:
        return None
    return free


class Memory:
    """The memory for derivatives: ``limit`` bytes or "4GB"; None: half of what the machine has to spare.

    Where the memory does not suffice all the same, groups become smaller, with one OutOfMemoryWarning.
    """

    def __init__(self, engine: Engine, settings: Any, limit: str | float | None = None) -> None:
        self.engine, self._settings = engine, settings
        self.limit = None if limit is None else bytes_of(limit)
        self._group: int | None = None  # what was found to fit
        self._bins: dict[int, tuple[Bin, ...]] = {}  # of the latest graph of so many atoms, where programs are compiled

    def need(self, graph: Graph) -> Need | None:
        """Bytes that the forces of ``graph`` take, if that can be estimated."""
        return need(self._settings, graph, self.engine.run(slope=True).most_bins)

    def plan(self, execution: Execution, graph: Graph) -> Execution:
        """``execution`` for ``graph``: in bins, which for programs never become narrower, and with or without
        recomputation.
        """
        n = len(graph.neighbors)
        plan = planned(self._chosen(execution, graph), graph, self._bins.get(n, ()))
        if self.engine.rounds_shapes:
            self._bins[n] = plan.bins
        return plan

    def _chosen(self, execution: Execution, graph: Graph) -> Execution:
        """``execution`` with the group, and the number of atoms to remember, that fit."""
        if self._group is not None:
            return replace(execution, remember=0, group=self._group)
        limit = self.limit
        if limit is None and self.engine.device == "cpu" and (free := available()) is not None:
            limit = 0.5 * free
        wanted = need(self._settings, graph, execution.most_bins)
        if limit is None or wanted is None:
            return execution
        fits = wanted.remembered <= limit
        return replace(execution, remember=len(graph.neighbors) if fits else 0)

    def run(self, execution: Execution, graph: Graph, function: Callable[[Execution], T], *, alone: bool = True) -> T:
        """``function`` of the plan for ``graph``, and of smaller ones while memory does not suffice.

        ``alone``: no other process waits for this one, so that it may begin anew.
        """
        plan, n = self.plan(execution, graph), len(graph.neighbors)
        while True:
            try:
                return function(plan)
            except Exception as error:
                if not self.engine.out_of_memory(error):
                    raise
                if not alone:
                    raise BackendError(SHARED.format(n)) from error
                if plan.group is None or plan.group <= SMALLEST:
                    raise BackendError(GIVEN_UP.format(plan.group or n)) from error
            first = self._group is None
            self._group = min(n, plan.group) if first and plan.remember else max(SMALLEST, plan.group // 2)
            if first:
                warnings.warn(LESS.format(n, self._group), OutOfMemoryWarning, stacklevel=2)
            plan = self.plan(execution, graph)
