"""Train a model.

The input file is deepmd-kit's, JSON or YAML.

Examples:
    dpmodel train input.json --backend torch
    dpmodel train input.json --restart model.ckpt
    dpmodel train input.json --finetune pretrained.pt --model-branch water
"""

import json
import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpmodel.backend import backend as find_backend
from dpmodel.cli.options import Backend, Device
from dpmodel.cli.options import told as people
from dpmodel.io.files import expect_free, replacing
from dpmodel.train.curve import Columns
from dpmodel.train.loop import Training, Watch
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import load_script


def main(
    script: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML, as deepmd-kit's.")],
    restart: Annotated[
        Path | None, typer.Option("--restart", "-r", help="Go on from a checkpoint or save_ckpt.")
    ] = None,
    init_model: Annotated[
        Path | None, typer.Option("--init-model", "-i", help="Start from this model's parameters.")
    ] = None,
    finetune: Annotated[
        Path | None, typer.Option("--finetune", "-t", help="Start from this pretrained model, for new data.")
    ] = None,
    model_branch: Annotated[str | None, typer.Option(help="Its branch to start from; RANDOM: a new head.")] = None,
    use_pretrain_script: Annotated[
        bool, typer.Option("--use-pretrain-script", help="Take its descriptor and fitting sections, too.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Input with all defaults.")] = Path("out.json"),
    skip_neighbor_stat: Annotated[
        bool, typer.Option("--skip-neighbor-stat", help="Do not count neighbors in all training data.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Look at the input and the data, train nothing.")] = False,
    backend: Backend = "torch",
    device: Device = None,
) -> None:
    origin = StartFrom(restart, init_model, finetune, model_branch, use_pretrain_script, not skip_neighbor_stat)
    if not train_file(script, backend, device, origin, output, check, people):
        raise typer.Exit(130)


def train_file(
    path: Path, name: str, device: str | None, origin: StartFrom, output: Path | None, check: bool, told: Console
) -> bool:
    """Train what the input file at ``path`` says, on the backend ``name``; False if it was stopped on request.

    ``output``: the input with all defaults; ``check``: look at everything, data included, train and write nothing.
    """
    script = load_script(path, origin.descriptor)
    for task in script.tasks.values():
        if task.loss.half_off:
            told.print(f"[yellow]warning:[/] loss terms with one prefactor of zero do not count: {task.loss.half_off}")
    processes = find_backend(name).processes()
    told = Console(quiet=True) if processes.rank else told
    engine = find_backend(name).engine(device)
    if output is not None:
        expect_free(output, overwrite=True)
    run = prepare(
        script, engine, origin, lambda line: told.print(escape(line), soft_wrap=True), processes, keep=not check
    )
    parameters = sum(value.size for value in run.learner.optimizer.state().values() if value.ndim) // 3
    where = f"{engine.name}, {engine.device}" + (f", {processes.size} processes" if processes.size > 1 else "")
    told.print(f"{parameters} parameters on {where}; steps {run.step} to {run.n_steps}")
    if check:
        return True
    if output is not None and processes.rank == 0:
        with replacing(output) as file:
            file.write(json.dumps(run.script.content(), indent=2).encode() + b"\n")
    finished = _with_bar(run, told) if told.is_terminal else run.run(_lines(run, told))
    if not finished:
        told.print(f"stopped after step {run.step}; go on with --restart {run.script.training.save_ckpt}")
    return finished


def _with_bar(run: Training, told: Console) -> bool:
    """Run under a line that moves."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=told) as progress:
        bar = progress.add_task("training", total=run.n_steps, completed=run.step, speed="")

        def watch(step: int, task: str, found: Columns, learning_rate: float) -> None:
            speed = progress.tasks[bar].speed
            rate = "" if not speed else f"{speed:.2g}/s" if speed > 1 else f"{1 / speed:.2g} s/step"
            progress.update(bar, completed=step, description=_values(found, learning_rate), speed=rate)

        return run.run(watch)


def _lines(run: Training, told: Console) -> Watch:
    """A line for each of the learning curve, where none can move: in the log of a batch job."""
    last, since = run.step, time.monotonic()

    def watch(step: int, task: str, found: Columns, learning_rate: float) -> None:
        nonlocal last, since
        if step > 1 and step % run.script.training.disp_freq:
            return
        now = time.monotonic()
        pace, last, since = (now - since) / (step - last), step, now
        left = timedelta(seconds=round(pace * (run.n_steps - step)))
        where = f"step {step} of {task}" if run.script.multi else f"step {step}"
        line = f"{where}: {_values(found, learning_rate)}, {pace:.2g} s/step, {left} left"
        told.print(escape(line), highlight=False, soft_wrap=True)

    return watch


def _values(found: Columns, learning_rate: float) -> str:
    known = {name: value for name, value in found.items() if name != "rmse" and not math.isnan(value)}  # has labels
    errors = " ".join(f"{name} {value:.3g}" for name, value in known.items())
    return f"{errors} lr {learning_rate:.1e}"
