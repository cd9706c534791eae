"""``dpmodel compress``: tables for networks, checked before they are written."""

from pathlib import Path

from rich.console import Console

from dpmodel.backend import backend as find_backend
from dpmodel.data.structure import Structure
from dpmodel.data.systems import System, find_systems
from dpmodel.edit.compression import compress
from dpmodel.edit.compression_report import compare
from dpmodel.edit.verified_save import expect_target, write_checked
from dpmodel.errors import DpmodelError, SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.statistics.neighbors import neighbor_statistics
from dpmodel.testing.structures import example
from dpmodel.train.script import load_script

SAMPLES = 4  # frames of the training data to try the tables on


def compress_file(
    source: Path,
    target: Path,
    step: float,
    extrapolate: float,
    script: Path | None,
    backend: str,
    head: str | None,
    overwrite: bool,
    told: Console,
) -> None:
    """Write ``source`` with tables to ``target``, if they give its numbers."""
    expect_target(target, overwrite, tables=True)
    file = read_model(source, head)
    samples = _frames(file, script) if script else []
    distance = file.min_pair_distance
    if not distance:
        if not samples:
            raise DpmodelError(
                f"{source} does not say how close atoms came in its training data: give --training-script input.json"
            )
        distance = neighbor_statistics(samples, [file.settings.cutoff]).shortest
        told.print(f"shortest distance in the training data: {distance:.4f} angstrom")
    done = compress(file, min_pair_distance=distance, step=step, extrapolate=extrapolate)
    trial = samples[:: max(1, len(samples) // SAMPLES)][:SAMPLES] or [example(file.settings.type_map)]
    change = compare(file, done, find_backend(backend).engine(), trial)
    told.print(
        f"on {len(trial)} structure(s) with {backend}: energies differ by {change.energy:.1e} eV/atom, forces by "
        f"{change.forces:.1e} eV/Å, virials by {change.virial:.1e} eV/atom; {change.speed_up:.2f} times as fast"
    )
    if not change.acceptable:
        raise DpmodelError(
            f"the tables do not give the model's numbers, {target} was not written: try a smaller --step"
        )
    write_checked(target, done, done, overwrite=overwrite)


def _frames(file: ModelFile, script: Path) -> list[Structure]:
    """Structures of the training data that an input file names, relative to here or to that file."""
    tasks = load_script(script).tasks
    if len(tasks) != 1:
        raise SettingError(f"{script}: expected one task, found {', '.join(tasks)}")
    data = next(iter(tasks.values())).data.training_data
    given = [data.systems] if isinstance(data.systems, str) else data.systems
    places = [path if Path(path.split("#")[0]).exists() else str(script.parent / path) for path in given]
    paths = find_systems(places, data.rglob_patterns)
    return [frame.structure for path in paths for frame in System(path, file.settings)]
