"""Train a model.

The input file is deepmd-kit's, JSON or YAML.

Examples:
    dpmodel train input.json --backend torch
    dpmodel train input.yaml --from data/ --size small
    dpmodel train input.json --restart model.ckpt
    dpmodel train input.json --finetune pretrained.pt --model-branch water
"""

import json
import math
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpmodel.backend import backend as find_backend
from dpmodel.cli.new_input import write_input
from dpmodel.cli.options import Backend, Device
from dpmodel.cli.options import console as people
from dpmodel.dpa2.sizes import Size
from dpmodel.errors import SettingError
from dpmodel.io.files import expect_free, replacing
from dpmodel.train.curve import Columns
from dpmodel.train.loop import Training, Watch
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import Script, load_script


def main(
    script: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML, as deepmd-kit's.")],
    data: Annotated[
        Path | None, typer.Option("--from", help="Write INPUT (.yaml) for these data, with comments, and stop.")
    ] = None,
    size: Annotated[Size, typer.Option("--size", help="Of the model that --from writes.")] = "medium",
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
    if data is not None:
        for line in write_input(script, data, size):
            people.print(line, markup=False, highlight=False, soft_wrap=True)
        people.print(f"wrote {script}; now: dpmodel train {script}", markup=False, highlight=False, soft_wrap=True)
        return
    origin = StartFrom(restart, init_model, finetune, model_branch, use_pretrain_script, not skip_neighbor_stat)
    if not train_file(script, backend, device, origin, output, check, people):
        raise typer.Exit(130)


def train_file(
    path: Path, name: str, device: str | None, origin: StartFrom, output: Path | None, check: bool, console: Console
) -> bool:
    """Train what the input file at ``path`` says, on the backend ``name``; False if it was stopped on request.

    ``output``: the input with all defaults; ``check``: look at everything, data included, train and write nothing.
    """
    script = _script(path, origin)
    for task in script.tasks.values():
        if task.loss.half_off:
            console.print(
                f"[yellow]warning:[/] loss terms with one prefactor of zero do not count: {task.loss.half_off}"
            )
    processes = find_backend(name).processes()
    console = Console(quiet=True) if processes.rank else console
    engine = find_backend(name).engine(device)
    if output is not None:
        expect_free(output, overwrite=True)
    run = prepare(
        script, engine, origin, lambda line: console.print(escape(line), soft_wrap=True), processes, keep=not check
    )
    parameters = sum(value.size for value in run.learner.optimizer.state().values() if value.ndim) // 3
    where = f"{engine.name}, {engine.device}" + (f", {processes.size} processes" if processes.size > 1 else "")
    console.print(f"{parameters} parameters on {where}; steps {run.step} to {run.n_steps}")
    if check:
        return True
    if output is not None and processes.rank == 0:
        with replacing(output) as file:
            file.write(json.dumps(run.script.content(), indent=2).encode() + b"\n")
    if engine.rounds_shapes:
        console.print("compiling at the first step, and where there are more atoms or neighbors than before")
    finished = _with_bar(run, console) if console.is_terminal else run.run(_lines(run, console))
    _tell_end(run, console, finished)
    return finished


def _script(path: Path, origin: StartFrom) -> Script:
    """The input; where its descriptor is no whole one, an error says which option takes that of the file."""
    try:
        return load_script(path, origin.descriptor)
    except SettingError as error:
        can_take = (origin.finetune or origin.init_model) and not origin.use_pretrain_script
        if not can_take or "model.descriptor" not in str(error):
            raise
        raise SettingError(f"{error}\n  --use-pretrain-script takes descriptor and fitting net from the file") from None


def _tell_end(run: Training, console: Console, finished: bool) -> None:
    """Print times, the smallest errors, the files written, and what to do next."""
    training, total = run.script.training, sum(run.spent.values())
    if run.spent:
        parts = ", ".join(f"{what} {seconds / total:.0%}" for what, seconds in run.spent.items())
        mean = f"; {1e3 * total / run.taken:.3g} ms a step" if run.taken else ""
        console.print(f"took {timedelta(seconds=round(total))}: {parts}{mean}", highlight=False)
    for name, (error, step) in run.smallest.items():
        if name.partition(" ")[0] != "rmse" or not _has_terms(run.smallest):
            console.print(f"best {escape(name)} {error:.3g} at step {step}", highlight=False)
    files = [*map(str, run.written.values()), *[training.disp_file] * training.disp_training]
    files += [run.script.settings.validating.full_val_file] * bool(run.validations)
    if run.written:
        console.print(f"wrote {', '.join(files)}", markup=False, soft_wrap=True)
    if not finished:
        console.print(f"stopped after step {run.step}; go on with --restart {training.save_ckpt}")
    elif run.written:
        if run.step < run.n_steps:
            console.print(
                f"ended at step {run.step} of {run.n_steps}: validation has not improved for validating.patience"
            )
        _tell_offsets(run, console)
        best = run.written.get("best.ckpt", run.written["checkpoint"])
        console.print(f"next: dpmodel test {best} -s DATA", markup=False, soft_wrap=True)
        console.print(f"or: dpmodel convert {best} model.dp", markup=False, soft_wrap=True)


def _tell_offsets(run: Training, console: Console) -> None:
    """A warning of a constant that is left in the energies, and how to get rid of it."""
    for task, shift in run.learner.offsets().items():
        if shift and not run.script.training.change_bias_after_training:
            energies = f"energies of {escape(task)}" if run.script.multi else "energies"
            console.print(
                f"[yellow]warning:[/] {energies} are off by {shift:+.2g} eV per atom, most of it a constant, which "
                "'change_bias_after_training' in the section 'training' takes out, and so does 'dpmodel change-bias'",
                soft_wrap=True,
            )


def _with_bar(run: Training, console: Console) -> bool:
    """Run under a line that moves, with a log above it."""
    columns = BarColumn(20), MofNCompleteColumn(), TextColumn("steps"), TextColumn("{task.fields[speed]}")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        first = "compiling" if run.engine.rounds_shapes else ""
        bar = progress.add_task("training", total=run.n_steps, completed=run.step, speed=first)
        line = _lines(run, progress.console, pace=False)

        def watch(step: int, task: str, errors: Columns, learning_rate: float) -> None:
            line(step, task, errors, learning_rate)
            speed = progress.tasks[bar].speed
            rate = "" if not speed else f"{speed:.2g}/s" if speed > 1 else f"{1 / speed:.2g} s/step"
            progress.update(bar, completed=step, speed=rate)

        return run.run(watch)


def _lines(run: Training, console: Console, *, pace: bool = True) -> Watch:
    """A line for each of the learning curve; ``pace``: with the time of a step, and the time that is left."""
    last, since = run.step, time.monotonic()

    def watch(step: int, task: str, errors: Columns, learning_rate: float) -> None:
        nonlocal last, since
        if not run.is_displayed(step):
            return
        now = time.monotonic()
        each, last, since = (now - since) / (step - last), step, now
        left = timedelta(seconds=round(each * (run.n_steps - step)))
        where = f"step {step} of {task}" if run.script.multi else f"step {step}"
        line = f"{where}: {_values(errors, learning_rate)}{f', {each:.2g} s/step, {left} left' if pace else ''}"
        console.print(escape(line), highlight=False, soft_wrap=True)

    return watch


def _values(errors: Columns, learning_rate: float) -> str:
    """The errors that there are."""
    shown = [name for name in errors if (name != "rmse" or not _has_terms(errors)) and not math.isnan(errors[name])]
    return " ".join([*(f"{name} {errors[name]:.3g}" for name in shown), f"lr {learning_rate:.1e}"])


def _has_terms(columns: Iterable[str]) -> bool:
    """Whether "rmse" among ``columns`` is the root of a loss of several terms, rather than an error of a property."""
    return any(name.startswith(("rmse_", "mae_")) for name in columns)
