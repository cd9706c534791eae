"""Compressed against plain models: forces of water with the "compressible" model of deepmd-kit's examples.

    python benchmarks/compressed.py --backends numpy,torch --sizes 192,5184

Both in turn, in one process; ratios of median CPU times, for these machines are shared.
"""

import argparse
import statistics
import time

from water import MEDIUM, water

from dpmodel.backend import backend
from dpmodel.edit.compression import compress
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backends", default="numpy,torch")
    options.add_argument("--sizes", default="192")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    section = MEDIUM | {"descriptor": MEDIUM["descriptor"] | {"repinit": dict(MEDIUM["descriptor"]["repinit"])}}
    section["descriptor"]["repinit"]["tebd_input_mode"] = "strip"
    section["descriptor"]["repformer"] = section["descriptor"]["repformer"] | {
        "nlayers": 3,
        "update_g2_has_attn": False,
    }
    settings = ModelSettings.read(section)
    plain = ModelFile(settings, build(settings, seed=1))
    tables = compress(plain, min_pair_distance=0.9)
    for name in given.backends.split(","):
        engine = backend(name).engine("cpu")
        both = [Potential(file, engine) for file in (plain, tables)]
        for size in map(int, given.sizes.split(",")):
            report(name, size, [measure(potential, size, given.rounds) for potential in both])


def measure(potential: Potential, size: int, rounds: int) -> tuple[float, float]:
    """Median CPU seconds, and the energy."""
    x, types, cell = water(size)
    energy = potential.evaluate(x, types, cell).energy[0]
    times = []
    for _ in range(rounds):
        start = time.process_time()
        potential.evaluate(x, types, cell)
        times.append(time.process_time() - start)
    return statistics.median(times), float(energy)


def report(name: str, size: int, found: list[tuple[float, float]]) -> None:
    (plain, e), (tables, f) = found
    print(f"{name:7s} {size:6d} atoms  plain {plain:7.2f} s  tables {tables:7.2f} s", end="  ")
    print(f"{plain / tables:.2f} times as fast, energies differ by {e - f:.0e} eV")


if __name__ == "__main__":
    main()
