"""Time and memory of loading the medium model on NumPy from every kind of file.

    python benchmarks/loading.py

CPU seconds of ``dpmodel.load`` in a process that has imported its modules (the time of that is beside it), and the
largest amount of memory that Python and NumPy take for it, in sizes of the file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from water import MEDIUM

import dpmodel

LOAD = """
import json, sys, time, tracemalloc
start = time.process_time()
import dpmodel
from dpmodel import potential
potential.find_backend("numpy").engine()
imported = time.process_time()
if sys.argv[2] == "memory":
    tracemalloc.start()
model = dpmodel.load(sys.argv[1])
peak = tracemalloc.get_traced_memory()[1] if sys.argv[2] == "memory" else 0
print(json.dumps({"imports": imported - start, "load": time.process_time() - imported, "peak": peak}))
"""


def measured(path: Path, what: str) -> dict[str, float]:
    """What a process of its own says of loading ``path``; memory is not counted while time is."""
    run = subprocess.run([sys.executable, "-c", LOAD, str(path), what], capture_output=True, text=True, check=True)
    return dict(json.loads(run.stdout))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--suffixes", default=".dp,.pt,.dp.json,.yaml")
    potential = dpmodel.create(MEDIUM, seed=1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        for suffix in options.parse_args().suffixes.split(","):
            path = Path(folder) / f"medium{suffix}"
            potential.save(path)
            size = path.stat().st_size
            times = min((measured(path, "time") for _ in range(3)), key=lambda t: t["load"])
            peak = measured(path, "memory")["peak"]
            print(f"{suffix:8s} {size / 1e6:5.1f} MB  load {times['load']:5.2f} s", end="  ")
            print(f"(imports {times['imports']:.2f} s)  memory {peak / size:.2f} times the file")


if __name__ == "__main__":
    main()
