"""Files with a line every so many steps, as ``model_devi.out``: how far models disagree, how uncertain one is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from dpmodel.engines.deviation import force_deviation, summary, virial_deviation
from dpmodel.engines.lammps.halo import Comm
from dpmodel.errors import FileError, InputError
from dpmodel.xp import Array


@dataclass
class StepFile:
    """A line every ``every`` steps, in deepmd-kit's columns."""

    subject: ClassVar[str]
    path: Path
    every: int
    _is_new: bool = field(default=True, init=False)
    _last: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"out_freq should be a positive number of steps, got {self.every}")
        self.path = self.path.absolute()  # a script may go to another folder

    def due(self, step: int) -> bool:
        """True if this step has a line that is not yet written."""
        return step % self.every == 0 and step != self._last

    def append(self, step: int, columns: Mapping[str, float], rest: Iterable[float] = ()) -> None:
        """To a file that is not kept open: LAMMPS does not say when it lets go of its pair style."""
        line = f"{step:12d}" + "".join(f"{value:19.6e}" for value in (*columns.values(), *rest))
        try:
            with self.path.open("w" if self._is_new else "a", encoding="utf-8") as file:
                if self._is_new:
                    file.write("#" + f"{'step':>11}" + "".join(f"{name:>19}" for name in columns) + "\n")
                file.write(line + "\n")
        except OSError as error:
            raise FileError(f"{self.path}: cannot write the {self.subject} ({error.strerror})") from error
        self._is_new = False


@dataclass
class DeviationFile(StepFile):
    """The disagreement of several models along a trajectory, in eV and angstrom.

    ``atomic``: the force deviation of each atom follows, ordered by ID.  ``relative`` (eV/angstrom), ``relative_v``
    (eV): relative to the mean of the models plus this level.
    """

    subject = "model deviation"
    atomic: bool = False
    relative: float | None = None
    relative_v: float | None = None

    def write(self, step: int, ids: Array, forces: Sequence[Array], virials: Sequence[Array], comm: Comm) -> None:
        """Forces (n, 3) on the atoms ``ids`` (n,) of this process, and total virials (3, 3), of each model.

        All processes call this together; the first one writes.
        """
        own = force_deviation(np.stack(forces), self.relative)
        parts = comm.gather((ids, own))
        self._last = step
        if parts is None:
            return
        order = np.argsort(np.concatenate([part[0] for part in parts]))
        every = np.concatenate([part[1] for part in parts])[order]
        deviations = summary(every, virial_deviation(np.stack(virials), len(every), self.relative_v))
        self.append(step, deviations, every if self.atomic else ())
