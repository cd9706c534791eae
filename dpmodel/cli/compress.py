"""Put tables in place of embedding networks.

What that changes is shown before the file is written.

Examples:
    dpmodel compress model.dp compressed.dp
"""

from pathlib import Path
from typing import Annotated

import typer

from dpmodel.backend import backend as find_backend
from dpmodel.cli.options import Backend, Force, Head, Model, console
from dpmodel.data.samples import example
from dpmodel.data.structure import Structure
from dpmodel.data.systems import System, find_systems
from dpmodel.edit.compression import EXTRAPOLATE, STEP, compress
from dpmodel.edit.compression_report import compare
from dpmodel.edit.verified_save import expect_target, write_checked
from dpmodel.errors import DpmodelError, SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.statistics.neighbors import neighbor_statistics
from dpmodel.train.script import load_script

SAMPLES = 4  # frames of the training data to try the tables on


def main(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The compressed model (.dp, .yaml, .dp.json).", show_default=False)],
    training_script: Annotated[
        Path | None,
        typer.Option(
            "--training-script", "-t", help="Input file whose data say how close atoms come, if the model does not."
        ),
    ] = None,
    head: Head = None,
    step: Annotated[float, typer.Option("--step", help="Spacing of the knots of the tables.")] = STEP,
    extrapolate: Annotated[
        float, typer.Option("--extrapolate", "-e", help="Tables go on, coarser, to this many times their end.")
    ] = EXTRAPOLATE,
    force: Force = False,
    backend: Backend = "numpy",
) -> None:
    expect_target(output, force, tables=True)
    file = read_model(model, head)
    samples = _frames(file, training_script) if training_script else []
    distance = file.min_pair_distance
    if not distance:
        if not samples:
            raise DpmodelError(
                f"{model} does not say how close atoms came in its training data: give --training-script input.json"
            )
        distance = neighbor_statistics(samples, [file.settings.cutoff]).shortest
        console.print(f"shortest distance in the training data: {distance:.4f} Å")
    done = compress(file, min_pair_distance=distance, step=step, extrapolate=extrapolate)
    trial = samples[:: max(1, len(samples) // SAMPLES)][:SAMPLES] or [example(file.settings.type_map)]
    change = compare(file, done, find_backend(backend).engine(), trial)
    console.print(
        f"on {len(trial)} structure(s) with {backend}: energies differ by {change.energy:.1e} eV/atom, forces by "
        f"{change.forces:.1e} eV/Å, virials by {change.virial:.1e} eV/atom; {change.speed_up:.2f} times as fast"
    )
    if not change.acceptable:
        raise DpmodelError(
            f"the tables do not give the model's numbers, {output} was not written: try a smaller --step"
        )
    write_checked(output, done, done, overwrite=force)


def _frames(file: ModelFile, script: Path) -> list[Structure]:
    """Structures of the training data that an input file names, relative to here or to that file."""
    tasks = load_script(script).tasks
    if len(tasks) != 1:
        raise SettingError(f"{script}: expected one task, found {', '.join(tasks)}")
    data = next(iter(tasks.values())).data.training_data
    listed = [data.systems] if isinstance(data.systems, str) else data.systems
    folders = [path if Path(path.split("#")[0]).exists() else str(script.parent / path) for path in listed]
    paths = find_systems(folders, data.rglob_patterns)
    return [frame.structure for path in paths for frame in System(path, file.settings)]
