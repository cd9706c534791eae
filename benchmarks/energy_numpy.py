"""NumPy energy of water with the medium model: time and memory, beside deepmd-kit's NumPy backend if it is there.

    python benchmarks/energy_numpy.py                                       this library alone
    python benchmarks/energy_numpy.py --deepmd /path/to/venv/bin/python     the two in turn, in one run
    python benchmarks/energy_numpy.py --sizes 192,1536,12288                cost against atoms

deepmd-kit's NumPy backend needs no framework: in a fresh environment, pip install --no-deps deepmd-kit==3.2.0, then
numpy scipy h5py dargs pyyaml typing_extensions array-api-compat ml_dtypes packaging lmdb msgpack wcmatch
python-hostlist mendeleev.  These machines are noisy: quote ratios of medians from one run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = """
import json, resource, sys, time
import numpy as np
import dpmodel
frame = np.load(sys.argv[2])
potential = dpmodel.load(sys.argv[1], backend="numpy")
run = lambda: potential.evaluate(frame["x"], frame["t"], frame["cell"], forces=False).energy[0]
"""
DEEPMD = """
import json, resource, sys, time
import numpy as np
from deepmd.infer import DeepPot
frame = np.load(sys.argv[2])
potential = DeepPot(sys.argv[1])
run = lambda: potential.eval(frame["x"].reshape(1, -1), frame["cell"].reshape(1, 9), frame["t"])[0].item()
"""
TIMED = """
run()
times = []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter(); energy = run(); times.append(time.perf_counter() - start)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"times": times, "memory": memory, "energy": float(energy)}))
"""


def measure(python: str, script: str, model: Path, frame: Path, repeat: int) -> dict:
    command = [python, "-W", "ignore", "-c", script + TIMED, str(model), str(frame), str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    import numpy as np
    from water import MEDIUM, water

    from dpmodel.io.deepmd import ModelFile
    from dpmodel.io.model import write_model
    from dpmodel.model.build import build
    from dpmodel.model.settings import ModelSettings

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--deepmd", help="Python of an environment with deepmd-kit")
    options.add_argument("--sizes", default="192", help="numbers of atoms")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, frame = Path(folder) / "medium.dp", Path(folder) / "frame.npz"
        settings = ModelSettings.read(MEDIUM)
        write_model(model, ModelFile(settings, build(settings, seed=1)))
        for size in map(int, given.sizes.split(",")):
            x, t, cell = water(size)
            np.savez(frame, x=x, t=t, cell=cell)
            runs: dict[str, list[dict]] = {"dpmodel": [], "deepmd": []}
            for _ in range(given.rounds):
                runs["dpmodel"].append(measure(sys.executable, OURS, model, frame, 3))
                if given.deepmd:
                    runs["deepmd"].append(measure(given.deepmd, DEEPMD, model, frame, 3))
            report(size, runs)


def report(size: int, runs: dict[str, list[dict]]) -> None:
    found = {}
    for name, results in runs.items():
        if results:
            time = statistics.median(t for r in results for t in r["times"])
            memory = max(r["memory"] for r in results)
            found[name] = (time, memory, results[0]["energy"])
            print(f"{size:6d} atoms  {name:8s} {time:8.3f} s  {1e3 * time / size:7.3f} ms/atom  {memory:6.0f} MB peak")
    if len(found) == 2:
        (a, m, e), (b, k, f) = found["dpmodel"], found["deepmd"]
        print(f"{b / a:.1f} times faster in {m / k:.2f} of the memory; the energies differ by {abs(e - f):.1e} eV")


if __name__ == "__main__":
    main()
