"""Time of a training step, of every backend and of deepmd-kit beside them, on the same input file.

python benchmarks/training.py INPUT.json --backends torch,jax,paddle --deepmd /path/to/python/of/deepmd-kit

Every program is run twice, for a few steps and for some more; the difference is the time of the steps alone, without
imports, statistics and compilation.  Processor seconds of all threads, so that other work on the machine does not
count; set OMP_NUM_THREADS to the cores you would give.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from learning import absolute


def main(
    script: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file of single-task training, JSON.")],
    backends: Annotated[str, typer.Option(help="Comma-separated.")] = "torch,jax,paddle",
    deepmd: Annotated[str | None, typer.Option(help="Python that has deepmd-kit and PyTorch.")] = None,
    few: Annotated[int, typer.Option(help="Steps of the first run: all shapes of batches, for what compiles.")] = 100,
    more: Annotated[int, typer.Option(help="Steps more in the second.")] = 100,
) -> None:
    """Print seconds a step, and how many times faster than deepmd-kit that is."""
    given = json.loads(script.read_text())
    for name in ("training_data", "validation_data"):
        absolute(given["training"][name], script.parent.resolve())
    given["training"] |= {"disp_freq": few + more, "save_freq": few + more}
    programs = {"deepmd-kit": [deepmd, "-m", "deepmd", "--pt", "train"]} if deepmd else {}
    for name in backends.split(","):
        programs[name] = [sys.executable, "-m", "dpmodel", "train", "--backend", name]
    seconds: dict[str, float] = {}
    for name, command in programs.items():
        seconds[name] = (cost(command, given, few + more) - cost(command, given, few)) / more
        factor = f", {seconds['deepmd-kit'] / seconds[name]:.1f} times as fast as deepmd-kit" if deepmd else ""
        print(f"{name}: {seconds[name]:.3f} s a step{factor}", flush=True)


def cost(command: list[str], given: dict[str, Any], steps: int) -> float:
    """Processor seconds of a run of ``steps``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        training = given["training"] | {"numb_steps": steps}
        (Path(folder) / "input.json").write_text(json.dumps(given | {"training": training}))
        done = subprocess.run([*command, "input.json"], cwd=folder, env=os.environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    typer.run(main)
