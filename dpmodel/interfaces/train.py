"""The command ``dpmodel train``."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpmodel.backend import backend
from dpmodel.train.curve import Columns
from dpmodel.train.loop import Training
from dpmodel.train.prepare import Origin, prepare
from dpmodel.train.script import load_script


def train_file(
    path: Path, name: str, device: str | None, origin: Origin, output: Path | None, check: bool, told: Console
) -> bool:
    """Train what the input file at ``path`` says, on the backend ``name``; False if it was stopped on request.

    ``check``: look at everything, data included, and train nothing.
    """
    script = load_script(path)
    for task in script.tasks.values():
        if task.loss.half_off:
            told.print(f"[yellow]warning:[/] loss terms with one prefactor of zero do not count: {task.loss.half_off}")
    processes = backend(name).processes()
    told = Console(quiet=True) if processes.rank else told
    engine = backend(name).engine(device)
    if output is not None and processes.rank == 0:
        output.write_text(json.dumps(script.settings.model_dump(), indent=2) + "\n")
    run = prepare(script, engine, origin, lambda line: told.print(escape(line)), processes)
    parameters = sum(value.size for value in run.learner.optimizer.state().values() if value.ndim) // 3
    where = f"{engine.name}, {engine.device}" + (f", {processes.size} processes" if processes.size > 1 else "")
    told.print(f"{parameters} parameters on {where}; steps {run.step} to {run.n_steps}")
    return True if check else _run(run, told)


def _run(run: Training, told: Console) -> bool:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=told) as progress:
        bar = progress.add_task("training", total=run.n_steps, completed=run.step, speed="")

        def watch(step: int, task: str, found: Columns, learning_rate: float) -> None:
            values = " ".join(f"{key} {value:.3g}" for key, value in found.items() if key != "rmse")
            speed = progress.tasks[bar].speed
            rate = "" if not speed else f"{speed:.2g}/s" if speed > 1 else f"{1 / speed:.2g} s/step"
            progress.update(bar, completed=step, description=f"{values} lr {learning_rate:.1e}", speed=rate)

        finished = run.run(watch)
    if not finished:
        told.print(f"stopped after step {run.step}; go on with --restart {run.script.training.save_ckpt}")
    return finished
