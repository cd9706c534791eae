"""Run by MPI: one of the processes fails at step 3, by an exception or killed, while the others wait for its atoms."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dpmodel.engines.lammps import attach
from lammps_systems import MPI, System, lammps_with, potential

how, folder, comm = sys.argv[1], Path(sys.argv[2]), MPI.COMM_WORLD
pids = comm.gather(os.getpid())
if pids:
    (folder / "pids").write_text(" ".join(map(str, pids)))
lmp = lammps_with(System.random(8, np.diag([4.2, 4.5, 4.9])), comm)
pair = attach(lmp, [potential()], ["O", "H"])
evaluate = pair._evaluate


def fail(*given: Any) -> Any:
    if comm.rank == 1 and lmp.extract_global("ntimestep") == 3:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError("no memory left on process 1")
    return evaluate(*given)


with patch.object(pair, "_evaluate", fail):
    lmp.commands_string("fix 1 all nve\nrun 10")
(folder / "went_on").touch()
