"""Training by several processes, joined by ``jax.distributed``."""

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dpmodel.backend import Alone
from dpmodel.backend import Processes as Protocol

# who says how many there are: oneself, Open MPI's mpirun, Slurm's srun
COUNTS = ("JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


class Processes:
    """One device of every process, in a row: the batch is sharded over them."""

    def __init__(self) -> None:
        jax.distributed.initialize(num_processes=_number("JAX_NUM_PROCESSES"), process_id=_number("JAX_PROCESS_ID"))
        self.rank, self.size = jax.process_index(), jax.process_count()
        devices = [next(d for d in jax.devices() if d.process_index == rank) for rank in range(self.size)]
        mesh = Mesh(np.array(devices), ("process",))
        self._each = NamedSharding(mesh, PartitionSpec("process"))
        self._add = jax.jit(lambda rows: rows.sum(axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))

    def sum(self, x: jax.Array) -> jax.Array:
        rows = jax.make_array_from_process_local_data(self._each, np.asarray(x)[None])
        return self._add(rows).addressable_data(0)


def _number(variable: str) -> int | None:
    """None: JAX finds out."""
    text = os.environ.get(variable)
    return None if text is None else int(text)


def processes() -> Protocol:
    """The settings of the environment: ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``, or
    those of Slurm and Open MPI that JAX finds."""
    return Processes() if any((_number(name) or 1) > 1 for name in COUNTS) else Alone()
