"""Time and memory of energies and forces, of every backend and of DeePMD-kit: the figures of the documentation.

    make bench                                             the usual backends on 192 atoms of water
    python benchmarks/bench.py --sizes 192,1536,12288      cost against atoms
    python benchmarks/bench.py --programs                  steps of training and of LAMMPS, exports
    python benchmarks/bench.py --deepmd /path/to/python    DeePMD-kit's TorchScript model in turn with them

Every program is a process of its own that holds the model; a round asks one after the other, so that whatever else the
machine does meets all of them.  Ratios are taken within a round; medians of rounds are reported, processor seconds (of
all threads) beside the clock.  Results go into a JSON file and a Markdown page, with a plot if Matplotlib is there.
"""

import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from programs import find_mpirun, whole_programs
from water import MEDIUM, water

import dpmodel

TASKS = {"forces": "energy, forces and virial", "energy": "energy alone"}
PEER = "deepmd-kit .pth"
SETUP = """
import json, resource, sys, time
import numpy as np
frame = np.load(sys.argv[2]); x, t, cell = frame["x"], frame["t"], frame["cell"]
forces = sys.argv[3] == "forces"
"""
OURS = """
import dpmodel
name, _, compiled = sys.argv[4].partition(" ")
p = dpmodel.load(sys.argv[1], name, device="cpu", compile=True if compiled else None)
run = lambda: p.evaluate(x, t, cell, forces=forces).energy[0]
"""
THEIRS = """
from deepmd.infer import DeepPot
p = DeepPot(sys.argv[1])
run = lambda: p.eval(x.reshape(1, -1), cell.reshape(1, 9), t)[0].item()
"""
LOOP = """
def use():
    return resource.getrusage(resource.RUSAGE_SELF)
def peak():  # not ru_maxrss: that of the parent is inherited
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
for _ in sys.stdin:
    a, start = use(), time.perf_counter()
    energy = float(run())
    wall, b = time.perf_counter() - start, use()
    cpu = b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime
    print(json.dumps([wall, cpu, peak(), energy]), flush=True)
"""


@dataclass
class Row:
    """One program on one model, size, precision and task; seconds and bytes."""

    program: str
    model: str
    atoms: int
    precision: str
    task: str
    first: float = 0.0  # the first call, compilation included
    again: float = 0.0  # the first call of another process, which finds what was compiled
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: float = 0.0
    energy: float = 0.0

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.model, self.atoms, self.precision, self.task


class Program:
    """A process that evaluates once for every line it is sent."""

    def __init__(self, row: Row, command: list[str]) -> None:
        self.row, self.command = row, command
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self) -> tuple[float, float]:
        """(clock, processor) seconds of one evaluation.  Raises RuntimeError if the process ended."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            while not (line := self.process.stdout.readline()).startswith("["):
                if not line:
                    raise RuntimeError(f"{self.row.program} ended with {self.process.wait()}")
        except BrokenPipeError:
            raise RuntimeError(f"{self.row.program} ended with {self.process.wait()}") from None
        wall, cpu, self.row.peak, self.row.energy = json.loads(line)
        return wall, cpu

    def restart(self) -> None:
        """Go on in a new process."""
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def settings_of(model: str, precision: str) -> dict[str, Any]:
    """The small, medium and large models of deepmd-kit's examples."""
    settings = copy.deepcopy(MEDIUM)
    settings["descriptor"]["repformer"] |= {"small": {"nlayers": 3}, "medium": {}, "large": {"nlayers": 12}}[model]
    settings["descriptor"]["precision"] = settings["fitting_net"]["precision"] = precision
    return settings


def measure(rows: list[Row], rounds: int, folder: Path, deepmd: str | None) -> None:
    """Fill ``rows``, which share everything but the program."""
    row = rows[0]
    model, frame = folder / "model.dp", folder / "frame.npz"
    dpmodel.create(settings_of(row.model, row.precision), seed=1).save(model, overwrite=True)
    x, t, cell = water(row.atoms)
    np.savez(frame, x=x, t=t, cell=cell)
    programs = []
    for one in rows:
        script, python, file = OURS, sys.executable, model
        if one.program == PEER:
            assert deepmd is not None
            script, python, file = THEIRS, deepmd, folder / "model.pth"
            file.unlink(missing_ok=True)
            subprocess.run([deepmd, "-m", "deepmd", "convert-backend", model, file], check=True, capture_output=True)
        code = SETUP + script + LOOP
        arguments = [str(file), str(frame), one.task, one.program]
        programs.append(Program(one, [python, "-W", "ignore", "-c", code, *arguments]))
    for program in list(programs):
        try:
            program.row.first = program.row.again = program.run()[0]
            if program.row.program == "jax":
                program.restart()
                program.row.again = program.run()[0]
        except RuntimeError as error:
            print(f"left out: {error}", flush=True)
            programs.remove(program)
            rows.remove(program.row)
    for _ in range(rounds):
        for program in programs:
            wall, cpu = program.run()
            program.row.wall.append(wall)
            program.row.cpu.append(cpu)
    for program in programs:
        program.stop()


def peak_rate() -> float:
    """Multiplications and additions a second of one large product of matrices in float64, the best of several."""
    a, best = np.ones((1200, 1200)), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2.0 * 1200**3 / best


def operations(model: str, atoms: int) -> float | None:
    """Multiplications and additions in the products of matrices of energy and forces, counted by PyTorch."""
    try:
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        return None
    x, t, cell = water(atoms)
    potential = dpmodel.create(settings_of(model, "float64"), "torch", seed=1)
    with FlopCounterMode(display=False) as counter:
        potential.evaluate(x, t, cell)
    return float(counter.get_total_flops())


def machine(threads: int) -> dict[str, Any]:
    """Where and with what it was measured."""

    def known(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "-"

    packages = {name: known(name) for name in ("dpmodel", "numpy", "torch", "jax", "paddlepaddle")}
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    date = time.strftime("%Y-%m-%d")
    return {"processor": cpu, "cores": os.cpu_count(), "threads": threads, "load": load, "date": date, **packages}


def ratio(row: Row, peer: Row | None) -> str:
    """How many times as fast as ``peer``, by processor seconds and by the clock; the median of rounds."""
    if peer is None or peer is row:
        return "1" if peer is row else "-"
    pairs = ((peer.wall, row.wall), (peer.cpu, row.cpu))
    wall, cpu = (statistics.median(b / a for a, b in zip(mine, its, strict=True)) for its, mine in pairs)
    return f"{cpu:.1f} ({wall:.1f})"


def page(results: dict[str, Any], rows: list[Row]) -> str:
    """The results as Markdown."""
    about = results["machine"]
    lines = [
        "# Performance",
        "",
        "Written by `make bench` (`benchmarks/bench.py`). Seconds are medians of rounds in which the programs took",
        "turns; ratios are medians of ratios of processor seconds within a round, of the clock in brackets. Where",
        "the load exceeds the cores, others took part of them: then neither seconds nor ratios of the clock say much.",
        "",
        f"{about['date']}, {about['processor']}, {about['threads']} of {about['cores']} cores, "
        + f"load {about['load']:.1f}; "
        + ", ".join(f"{name} {about[name]}" for name in ("dpmodel", "numpy", "torch", "jax", "paddlepaddle"))
        + ".",
    ]
    for key in dict.fromkeys(row.key for row in rows):
        model, atoms, precision, task = key
        mine = [row for row in rows if row.key == key]
        peer = next((row for row in mine if row.program == PEER), None)
        lines += [
            "",
            f"## {model}, {atoms} atoms of water, {precision}: {TASKS[task]}",
            "",
            f"| | s | ms/atom | times as fast as {PEER} | peak memory, GB | first call, s | from a cache, s |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in sorted(mine, key=lambda row: statistics.median(row.wall)):
            wall = statistics.median(row.wall)
            lines.append(
                f"| {row.program} | {wall:.3f} | {1e3 * wall / row.atoms:.2f} | {ratio(row, peer)} | "
                f"{row.peak / 1e9:.2f} | {row.first:.1f} | {row.again:.1f} |"
            )
        count = results["operations"].get(f"{model} {atoms}")
        if count and task == "forces" and precision == "float64":
            best = min(statistics.median(row.wall) for row in mine if row.program != PEER)
            reached = count / best / results["peak"]
            lines += [
                "",
                f"Products of matrices: {count / 1e9:.2f} GFLOP, {reached:.0%} of the {results['peak'] / 1e9:.0f}",
            ]
            lines[-1] += " GFLOP/s that one large product reaches here."
    return "\n".join(lines + programs_of(results["programs"])) + "\n"


def programs_of(rows: list[tuple[str, str, float, float | None]]) -> list[str]:
    """What whole programs take, as lines of Markdown."""
    if not rows:
        return []
    lines = ["", "## Whole programs, medium, float64: processor seconds", ""]
    lines += ["| | | s | times as fast as deepmd-kit |", "|---|---|---|---|"]
    return lines + [f"| {task} | {name} | {s:.3f} | {f'{r:.1f}' if r else ''} |" for task, name, s, r in rows]


def plot(results: dict[str, Any], rows: list[Row], path: Path) -> bool:
    """Cost against atoms and the least it could be, if there are several sizes and Matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    rows = [row for row in rows if (row.model, row.precision, row.task) == ("medium", "float64", "forces")]
    if len({row.atoms for row in rows}) < 2:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="atoms", ylabel="ms an atom", xscale="log", yscale="log")
    for program in dict.fromkeys(row.program for row in rows):
        mine = sorted((r.atoms, 1e3 * statistics.median(r.wall) / r.atoms) for r in rows if r.program == program)
        axes.plot(*zip(*mine, strict=True), "o-", label=program)
    flops = [(atoms, results["operations"].get(f"medium {atoms}")) for atoms in sorted({row.atoms for row in rows})]
    least = [(atoms, 1e3 * count / results["peak"] / atoms) for atoms, count in flops if count]
    axes.plot(*zip(*least, strict=True), "k--", label="its products of matrices at the peak rate")
    axes.legend()
    figure.savefig(path)
    return True


def save(path: Path, found: dict[str, Any], rows: list[Row]) -> None:
    """All so far, as JSON."""
    path.write_text(json.dumps(found | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def main(
    backends: Annotated[str, typer.Option(help='Comma-separated; "torch compiled" is possible.')] = "numpy,torch,jax",
    sizes: Annotated[str, typer.Option(help="Numbers of atoms, multiples of 48.")] = "192",
    models: Annotated[str, typer.Option(help="small, medium, large.")] = "medium",
    precisions: Annotated[str, typer.Option(help="float64, float32.")] = "float64,float32",
    tasks: Annotated[str, typer.Option(help="forces, energy.")] = "forces",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every program.")] = 1,
    deepmd: Annotated[str | None, typer.Option(help="Python of an environment with DeePMD-kit and PyTorch.")] = None,
    whole: Annotated[bool, typer.Option("--programs", help="Steps of training and LAMMPS, and exports.")] = False,
    update: Annotated[bool, typer.Option(help="Add to what the JSON file has.")] = False,
    results: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("benchmarks/results.json"),
    write: Annotated[Path | None, typer.Option(help="The Markdown page to write.")] = None,
) -> None:
    """Measure, print and write."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    programs = backends.split(",") + ([PEER] if deepmd else [])
    done: list[Row] = []
    found: dict[str, Any] = {"machine": machine(threads), "peak": peak_rate(), "operations": {}, "programs": []}
    if update and results.exists():
        before = json.loads(results.read_text())
        done = [Row(**row) for row in before.pop("rows")]
        found = before
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        if whole:
            mine = [name for name in backends.split(",") if " " not in name]
            for row in whole_programs(mine, deepmd, Path(folder), find_mpirun()):
                print(*row, flush=True)
                found["programs"].append(row)
        for model in models.split(","):
            for atoms in map(int, filter(None, sizes.split(","))):
                found["operations"][f"{model} {atoms}"] = operations(model, atoms) if atoms <= 1536 else None
                for precision in precisions.split(","):
                    for task in tasks.split(","):
                        rows = [Row(program, model, atoms, precision, task) for program in programs]
                        measure(rows, rounds, Path(folder), deepmd)
                        done += rows
                        print(page(found, rows).partition("\n## ")[2], flush=True)
                        save(results, found, done)
    save(results, found, done)
    if write is not None:
        text = page(found, done)
        if plot(found, done, write.with_suffix(".svg")):
            text += f"\n![Cost against atoms]({write.with_suffix('.svg').name})\n"
        write.write_text(text)


if __name__ == "__main__":
    typer.run(main)
