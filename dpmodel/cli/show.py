"""Settings, parameters, origin and heads of a model file.

Examples:
    dpmodel show model.dp
"""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from dpmodel.cli.options import Head, Model
from dpmodel.errors import printable
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import contents_of, read_model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import arrays
from dpmodel.settings import Settings


def main(model: Model, head: Head = None) -> None:
    Console(highlight=False).print(show_file(model, head))


def show_file(path: Path, head: str | None = None) -> Tree:
    """Settings, numbers of parameters and provenance of the model in ``path``; its heads if it has several."""
    several, averaged = contents_of(path)
    file = None if several and head is None else read_model(path, head)
    tree = Tree(_text(f"{path}  ({path.stat().st_size / 1024:.0f} kB)", style="bold"))
    if averaged:
        tree.add("averaged parameters (ema) are in it, too; those of the last step are what is read")
    if file is None:
        for name, settings in several.items():
            _heading(tree, settings, f"head {name}: ")
        tree.add("--head NAME shows one of them")
        return tree
    _heading(tree, file.settings)
    tree.add(f"neighbors: {file.settings.descriptor.nsel_meaning}")
    _settings(tree.add("settings"), file.settings)
    _parameters(tree.add("parameters"), file)
    _origin(tree.add("origin"), file)
    return tree


def _heading(tree: Tree, settings: ModelSettings, name: str = "") -> None:
    kind, types, also = settings.fitting_net.type, ", ".join(settings.type_map), ", ".join(settings.model_branch_alias)
    about = f" model of {types}" + (f" (also called {also})" if also else "")
    tree.add(Text.assemble(printable(name), (kind, "bold"), printable(about)))


def _settings(branch: Tree, settings: Settings) -> None:
    """Every setting; dim where it is at its default."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            _settings(branch.add(name), value)
        else:
            extra = field.json_schema_extra
            unit = str(extra.get("unit", "")).replace("angstrom", "Å") if isinstance(extra, dict) else ""
            line = f"{name} = {_plain(value)} {unit}".rstrip()
            branch.add(_text(line, style="dim" if value == field.default else ""))


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)


def _text(line: str, style: str = "") -> Text:
    return Text(printable(line), style=style)


def _parameters(branch: Tree, file: ModelFile) -> None:
    """Trained numbers of each block."""
    trained: Counter[str] = Counter()
    for path, value, meta in arrays(file.model):
        if meta["trainable"]:
            block = ".".join(path.split(".")[: 2 if path.startswith("descriptor") else 1])
            trained[block] += value.size
    for block, size in trained.items():
        branch.add(f"{block}: {size:,}")
    branch.add(f"[bold]in all: {sum(trained.values()):,}[/]")
    tables = [path for path, _, _ in arrays(file.model) if path.endswith("table.coefficients")]
    if tables:
        branch.add(f"compressed: tables in the place of the embedding of {', '.join(map(_block, tables))}")
    bias = ", ".join(
        f"{name} {b:.4f}" for name, b in zip(file.settings.type_map, file.model.out_bias[:, 0], strict=True)
    )
    what = "energy of each type (eV)" if file.settings.fitting_net.type == "ener" else "bias"
    branch.add(_text(f"{what}: {bias}"))


def _block(path: str) -> str:
    return path.split(".")[1]


def _origin(branch: Tree, file: ModelFile) -> None:
    for key in ("software", "version", "backend", "time"):
        if key in file.extras:
            branch.add(_text(f"{key}: {_plain(file.extras[key])}"))
    if file.min_pair_distance is not None:
        branch.add(f"shortest distance in the training data: {file.min_pair_distance:.4f} Å")
