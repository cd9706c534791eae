"""Write a model that knows its uncertainty.

The last layer of the network is compared with the data that the model was trained on (one pass over them), and
calibrated by the errors of energies on data that it was not trained on. A run that was cut off goes on where it
stopped.

Examples:
    dpmodel calibrate model.dp known.dp --system data/train --valid data/valid
    dpmodel eval known.dp frames.xyz --uncertainty
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dpmodel.backend import backend as find_backend
from dpmodel.cli.convert import write
from dpmodel.cli.options import Backend, Device, Force, Head, Model, Output, console
from dpmodel.data.systems import System, find_systems
from dpmodel.edit.uncertainty import calibrate
from dpmodel.edit.verified_save import expect_target
from dpmodel.errors import FileError
from dpmodel.io.model import read_model


def main(
    model: Model,
    output: Output,
    systems: Annotated[list[Path], typer.Option("--system", "-s", help="Data the model was trained on; repeatable.")],
    valid: Annotated[
        list[Path], typer.Option("--valid", help="Data it was not trained on, with energies; repeatable.")
    ],
    head: Head = None,
    force: Force = False,
    backend: Backend = "numpy",
    device: Device = None,
) -> None:
    expect_target(output, force)
    file = read_model(model, head)
    training = [System(path, file.settings, ()) for path in find_systems(list(map(str, systems)))]
    validation = [System(path, file.settings, ("energy",)) for path in find_systems(list(map(str, valid)))]
    if not any("energy" in frame.labels for system in validation for frame in system):
        raise FileError(f"{', '.join(map(str, valid))}: expected frames with energies, found none")
    total = sum(map(len, training)) + sum(map(len, validation))
    size, mtime = model.stat().st_size, model.stat().st_mtime_ns  # not when it was read last
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("frames", total=total)
        result = calibrate(
            file,
            find_backend(backend).engine(device),
            (frame for system in training for frame in system),
            (frame for system in validation for frame in system if "energy" in frame.labels),
            keep=output.with_name(f"{output.name}.part.npz"),
            mark=f"{model.resolve()} {size} {mtime} {[(str(s.path), len(s)) for s in (*training, *validation)]}",
            watch=lambda done: bar.update(task, completed=done),
        )
    console.print(result.check.sentence, soft_wrap=True)
    write(output, result.file, file, force)
