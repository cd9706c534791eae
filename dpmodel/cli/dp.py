"""``dpmodel-dp``: the command lines of deepmd-kit's ``dp``, as dpgen, dpgen2 and others call it, run by dpmodel.

Named ``dp`` by a link in a folder of the user's choice, it takes its place; docs/commands.md says how.  What it freezes
and compresses has the name that was asked for.  An energy model called ``.pth`` is a program for deepmd-kit's LAMMPS,
with the model inside for dpmodel and its LAMMPS; one of another head is the model alone.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpmodel.cli.app import main as run
from dpmodel.io.container import FORMATS
from dpmodel.io.deepmd import SINGLE
from dpmodel.io.model import READ_ONLY, read_model
from dpmodel.train.script import load_script

BACKENDS = {
    "torch": "pytorch pt pytorch-exportable pt-expt".split(),
    "jax": ["jax"],
    "paddle": "paddle pd".split(),
    "numpy": "numpy np dpmodel dp".split(),
}
FROZEN = "frozen_model"
WRITERS = ("freeze", "compress", "convert-backend")

FLAG: dict[str, Any] = {"action": "store_true"}
COMMON: dict[str, dict[str, Any]] = {"-v --log-level": {}, "-l --log-path": {}}
HEAD: dict[str, dict[str, Any]] = {"--head --model-branch": {}}

# deepmd-kit's options by command; those that say nothing to dpmodel are taken and dropped
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "train": {
        "input": {},
        "-i --init-model": {},
        "-r --restart": {},
        "-f --init-frz-model": {},
        "-t --finetune": {},
        "-o --output": {"default": "out.json"},
        "-m --mpi-log": {},
        "--model-branch": {},
        "--skip-neighbor-stat": FLAG,
        "--use-pretrain-script --force-load": FLAG,
    },
    "freeze": {
        "-c --checkpoint-folder --checkpoint": {"default": "."},
        "-o --output": {"default": FROZEN},
        "-n --node-names": {},
        "-w --nvnmd-weight": {},
        "--lower-kind": {},
        **HEAD,
    },
    "test": {
        "-m --model": {"default": FROZEN},
        "-s --system": {"default": "."},
        "-f --datafile": {},
        "--train-data": {},
        "--valid-data": {},
        "-S --set-prefix": {},
        "-n --numb-test": {"type": int, "default": 0},
        "-r --rand-seed": {},
        "--shuffle-test": FLAG,
        "-d --detail-file": {},
        "-a --atomic": FLAG,
        **HEAD,
    },
    "model-devi": {
        "-m --models": {"nargs": "+", "default": [f"graph.{k:03d}" for k in range(4)]},
        "-s --system": {"default": "."},
        "-S --set-prefix": {},
        "-o --output": {"default": "model_devi.out"},
        "-f --frequency": {"default": "1"},
        "--real_error": FLAG,
        "--atomic": FLAG,
        "--relative": {},
        "--relative_v": {},
    },
    "compress": {
        "-i --input": {"default": FROZEN},
        "-o --output": {"default": f"{FROZEN}_compressed"},
        "-s --step": {},
        "-e --extrapolate": {},
        "-f --frequency": {},
        "-m --mpi-log": {},
        "-c --checkpoint-folder": {},
        "-t --training-script": {},
        **HEAD,
    },
    "neighbor-stat": {
        "-s --system": {"default": "."},
        "-r --rcut": {"required": True},
        "-t --type-map": {"nargs": "+"},
        "--mixed-type --one-type": FLAG,
    },
    "convert-backend": {"input": {}, "output": {}},
    "show": {"input": {}, "attributes": {"nargs": "*"}},
}


def parser() -> argparse.ArgumentParser:
    """The parser of deepmd-kit's command lines."""
    top = argparse.ArgumentParser("dp", description="deepmd-kit's commands, run by dpmodel")
    names = {alias: ours for ours, aliases in BACKENDS.items() for alias in aliases}
    top.add_argument("-b", "--backend", default=os.environ.get("DP_BACKEND", "pytorch"), choices=list(names))
    for alias in names:
        top.add_argument(f"--{alias}", dest="backend", action="store_const", const=alias)
    commands = top.add_subparsers(dest="command", required=True)
    for command, options in OPTIONS.items():
        part = commands.add_parser(command)
        for flags, settings in (COMMON | options).items():
            part.add_argument(*flags.split(), **settings)
    return top


def backend_of(arguments: argparse.Namespace) -> str:
    """Ours for what deepmd-kit calls it."""
    return next(ours for ours, aliases in BACKENDS.items() if arguments.backend in aliases)


def translated(arguments: argparse.Namespace, output: str) -> list[str]:
    """The command line of dpmodel; a model is written to ``output``."""
    a, backend = arguments, backend_of(arguments)

    def same(*names: str) -> list[str]:
        """Options that are called the same in both, where they have a value."""
        values = {name: getattr(a, name.replace("-", "_")) for name in names}
        words = [
            [f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in values.items() if value
        ]
        return [word for pair in words for word in pair]

    if a.command == "train":
        flags = same("restart", "init-model", "finetune", "model-branch", "use-pretrain-script", "skip-neighbor-stat")
        frozen = ["--init-model", a.init_frz_model] if a.init_frz_model else []
        return ["train", a.input, *flags, *frozen, *same("output"), "--backend", backend]
    if a.command == "freeze":
        return ["convert", checkpoint(a.checkpoint_folder), output, *same("head"), "--force"]
    if a.command == "compress":
        options = same("step", "extrapolate", "training-script", "head")
        return ["compress", named(a.input), output, *options, "--force", "--backend", backend]
    if a.command == "test":
        number = ["--number", str(a.numb_test)] if a.numb_test else []
        detail = ["--detail", a.detail_file] if a.detail_file else []
        chosen = [word for system in tested(a) for word in ("-s", system)]
        return ["test", named(a.model), *chosen, *number, *detail, *same("head"), "--backend", backend]
    if a.command == "model-devi":
        options = same("output", "frequency", "real_error", "atomic", "relative", "relative_v")
        return ["model-devi", *map(named, a.models), "-s", a.system, *options, "--backend", backend]
    if a.command == "neighbor-stat":
        return ["neighbor-stat", "-s", a.system, "-r", a.rcut]
    return ["show", a.input] if a.command == "show" else ["convert", a.input, output, "--force"]


def tested(arguments: argparse.Namespace) -> list[str]:
    """Paths of systems: from a list, from an input file, or one."""
    if arguments.datafile:
        return Path(arguments.datafile).read_text().split()
    if not (arguments.train_data or arguments.valid_data):
        return [arguments.system]
    task = load_script(arguments.train_data or arguments.valid_data).tasks[SINGLE].data
    data = task.training_data if arguments.train_data else task.validation_data
    listed = data.systems if data else ()
    return [listed] if isinstance(listed, str) else list(listed)


def named(model: str) -> str:
    """A model as deepmd-kit's PyTorch backend names it: with a suffix."""
    return model if Path(model).suffix else f"{model}.pth"


def checkpoint(name: str) -> str:
    """The checkpoint that ``name`` means: a file, a prefix as "model.ckpt", or a folder that names its newest."""
    path = Path(name)
    if path.is_dir():
        note = path / "checkpoint"
        newest = note.read_text().strip() if note.is_file() else "model.ckpt.pt"
        return str(path / newest)
    return name if path.is_file() else f"{name}.pt"


def main(words: Sequence[str] | None = None) -> None:
    """Run one of deepmd-kit's commands."""
    reader = parser()
    arguments = reader.parse_args(words)
    if arguments.command not in WRITERS:
        run(translated(arguments, ""))
        return
    target = Path(named(arguments.output))
    if not target.name.lower().endswith((*READ_ONLY, *FORMATS)):
        reader.error(f"{target}: expected a name that ends in {', '.join((*READ_ONLY, *FORMATS))}")
    written = target.with_name(f".{target.name}{'.dp' if target.suffix.lower() in READ_ONLY else ''}")
    try:
        run(translated(arguments, str(written)))
    except SystemExit as end:
        if end.code:
            raise
    settle(written, target, program=backend_of(arguments) == "torch")


def settle(written: Path, target: Path, *, program: bool) -> None:
    """Give a model that was ``written`` its name, as a program for deepmd-kit where that is what the name says."""
    energies = read_model(written).settings.fitting_net.type == "ener"
    if not (program and energies and target.suffix.lower() in READ_ONLY):
        os.replace(written, target)
        return
    try:
        run(["export", str(written), str(target), "--for", "deepmd-kit", "--with-model", "--force"])
    finally:
        written.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
