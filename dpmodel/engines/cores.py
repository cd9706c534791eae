"""The cores of a computer shared among the MPI processes on it.

Nothing here imports NumPy: libraries of arrays ask for the number of threads when they are imported.
"""

import os

THREADS = ("OMP_NUM_THREADS", "NPROC")  # of PyTorch, Paddle and NumPy; of JAX


def share_cores() -> None:
    """As many threads for this process as its part of the cores, unless the environment says otherwise."""
    from mpi4py import MPI

    neighbors = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not Linux
    for name in THREADS:
        os.environ.setdefault(name, str(max(1, allowed // neighbors.size)))
    neighbors.Free()
