"""Settings, parameters, origin and heads of a model file.

Examples:
    dpmodel show model.dp
    dpmodel show multitask.pt --head water
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dpmodel.cli.options import Head, Json, Model
from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.errors import printable
from dpmodel.export.record import has_record, read_record
from dpmodel.io.checkpoint import head_called
from dpmodel.io.deepmd import SINGLE, ModelFile
from dpmodel.io.model import contents_of, read_model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import arrays
from dpmodel.settings import Settings

FEW = 10  # types whose names are listed
ORIGIN = ("software", "version", "backend", "time")


def main(model: Model, head: Head = None, as_json: Json = False) -> None:
    if as_json:
        print(json.dumps(to_json(model, head), indent=2))
    else:
        Console(highlight=False).print(show_file(model, head))


def show_file(path: Path, head: str | None = None) -> RenderableType:
    """Settings, numbers of parameters and provenance of the model in ``path``; its heads if it has several."""
    if path.exists() and has_record(path):
        return _exported(path)
    several, averaged = contents_of(path)
    file = None if several and head is None else read_model(path, head)
    tree = Tree(_text(f"{path}  ({path.stat().st_size / 1024:.0f} kB)", style="bold"))
    if averaged:
        tree.add("averaged parameters (ema) are in it, too; those of the last step are what is read")
    if file is None:
        return _heads(tree, several)
    _heading(tree, file.settings)
    tree.add(f"neighbors: {file.settings.descriptor.nsel_meaning}")
    _settings(tree.add("settings"), file.settings)
    _parameters(tree.add("parameters"), file)
    _origin(tree.add("origin"), file)
    return tree


def types_in_words(type_map: Sequence[str]) -> str:
    """The names of few types; of many their number, first and last."""
    if len(type_map) <= FEW:
        return ", ".join(type_map)
    what = "elements" if set(type_map) <= set(SYMBOLS) else "types"
    ordered = sorted(type_map, key=SYMBOLS.index) if what == "elements" else type_map
    return f"{len(type_map)} {what}, {ordered[0]} to {ordered[-1]}"


def observed_types(settings: ModelSettings) -> list[str]:
    """Types that occurred in the training data, where the file says it."""
    listed = (settings.info or {}).get("observed_type")
    return [str(name) for name in listed] if isinstance(listed, list | tuple) else []


def _heading(tree: Tree, settings: ModelSettings) -> None:
    also = ", ".join(settings.model_branch_alias)
    about = f" model of {types_in_words(settings.type_map)}" + (f" (also called {also})" if also else "")
    tree.add(Text.assemble((settings.fitting_net.type, "bold"), printable(about)))
    if observed := observed_types(settings):
        tree.add(_text(f"in the training data: {types_in_words(observed)}"))


def _exported(path: Path) -> RenderableType:
    """The record of an exported file in words; nothing of the program is run."""
    record = read_record(path)
    tree = Tree(_text(f"{path}  ({path.stat().st_size / 1024:.0f} kB)", style="bold"))
    tree.add(_text(f"exported for {record.form}: a program, of which this is what it says of itself"))
    _heading(tree, record.settings)
    tree.add(f"neighbors: {record.settings.descriptor.nsel_meaning}")
    _settings(tree.add("settings"), record.settings)
    branch = tree.add("written with")
    for name, version in record.versions.items():
        branch.add(_text(f"{name} {version}"))
    tree.add(_text(f"its test: {len(record.structure.types)} atoms, to {record.tolerance:g} of the largest number"))
    return tree


def _heads(tree: Tree, several: Mapping[str, ModelSettings]) -> RenderableType:
    """The settings that all heads share, and a table of the heads."""
    type_maps = {settings.type_map for settings in several.values()}
    if len(type_maps) == 1:
        tree.add(_text(f"{len(several)} models of {types_in_words(next(iter(type_maps)))}"))
    default = head_called(SINGLE, {name: s.model_branch_alias for name, s in several.items()})
    table = Table(box=SIMPLE_HEAD)
    columns = ["head", "also called", "kind", "types" if len(type_maps) > 1 else "", "in the training data"]
    rows = [
        [
            name,
            ", ".join(s.model_branch_alias),
            s.fitting_net.type,
            types_in_words(s.type_map) if len(type_maps) > 1 else "",
            types_in_words(observed_types(s)),
        ]
        for name, s in several.items()
    ]
    for i, column in enumerate(columns):
        if any(row[i] for row in rows):
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[_text(cell) for i, cell in enumerate(row) if any(other[i] for other in rows)])
    without = "a head has to be named" if default is None else f"without it, {default} is taken"
    return Group(tree, table, _text(f"--head NAME chooses one of them; {without}"))


def _settings(branch: Tree, settings: Settings) -> None:
    """Every setting; dim where it is at its default."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            _settings(branch.add(name), value)
        else:
            extra = field.json_schema_extra
            unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
            words = types_in_words(value) if name == "type_map" and len(value) > FEW else _plain(value)
            branch.add(_text(f"{name} = {words} {unit}".rstrip(), style="dim" if value == field.default else ""))


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)


def _text(line: str, style: str = "") -> Text:
    return Text(printable(line), style=style)


def parameters(file: ModelFile) -> Counter[str]:
    """Trained numbers of each block."""
    trained: Counter[str] = Counter()
    for path, value, meta in arrays(file.model):
        if meta["trainable"]:
            trained[".".join(path.split(".")[: 2 if path.startswith("descriptor") else 1])] += value.size
    return trained


def tabulated(file: ModelFile) -> list[str]:
    """Blocks whose embedding is a table."""
    return [path.split(".")[1] for path, _, _ in arrays(file.model) if path.endswith("table.coefficients")]


def _parameters(branch: Tree, file: ModelFile) -> None:
    trained = parameters(file)
    for block, size in trained.items():
        branch.add(f"{block}: {size:,}")
    branch.add(f"[bold]in all: {sum(trained.values()):,}[/]")
    if tables := tabulated(file):
        branch.add(f"compressed: tables in the place of the embedding of {', '.join(tables)}")
    types = list(zip(file.settings.type_map, file.model.out_bias[:, 0], strict=True))
    shown = [(name, b) for name, b in types if b] if len(types) > FEW else types
    what = "energy of each type (eV)" if file.settings.fitting_net.type == "ener" else "bias"
    rest = f", {len(types) - len(shown)} others 0" if len(shown) < len(types) else ""
    branch.add(_text(f"{what}: {', '.join(f'{name} {b:.4f}' for name, b in shown)}{rest}"))


def _origin(branch: Tree, file: ModelFile) -> None:
    for key in ORIGIN:
        if key in file.extras:
            branch.add(_text(f"{key}: {_plain(file.extras[key])}"))
    if file.min_pair_distance is not None:
        branch.add(f"shortest distance in the training data: {file.min_pair_distance:.4f} Å")


def to_json(path: Path, head: str | None) -> dict[str, Any]:
    """The same for programs."""
    if path.exists() and has_record(path):
        record = read_record(path)
        about = {
            "file": str(path),
            "bytes": path.stat().st_size,
            "form": record.form,
            "versions": dict(record.versions),
        }
        return about | _summary(record.settings) | {"settings": record.settings.model_dump()}
    several, averaged = contents_of(path)
    common = {"file": str(path), "bytes": path.stat().st_size, "averaged": averaged}
    if several and head is None:
        return common | {"heads": {name: _summary(settings) for name, settings in several.items()}}
    file = read_model(path, head)
    trained = parameters(file)
    return common | {
        **_summary(file.settings),
        "settings": file.settings.model_dump(),
        "parameters": dict(trained),
        "n_parameters": sum(trained.values()),
        "compressed": tabulated(file),
        "out_bias": file.model.out_bias.tolist(),
        "min_nbor_dist": file.min_pair_distance,
        "origin": {key: str(file.extras[key]) for key in ORIGIN if key in file.extras},
    }


def _summary(settings: ModelSettings) -> dict[str, Any]:
    return {
        "type": settings.fitting_net.type,
        "type_map": list(settings.type_map),
        "aliases": list(settings.model_branch_alias),
        "observed_type": observed_types(settings),
        "truncate": settings.descriptor.truncate,
    }
