"""Pages that are made from code and scripts; formulas that are made into MathML, which browsers show by themselves."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add a page and a notebook for every script in ``examples/notebooks``."""
    import jupytext
    from mkdocs.structure.files import File

    for script in sorted((ROOT / "examples" / "notebooks").glob("*.py")):
        notebook = jupytext.read(script, fmt="py:percent")
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        page = NOTEBOOK.format(name=script.stem, cells="\n\n".join(map(_cell, notebook.cells)))
        files.append(File.generated(config, f"examples/{script.stem}.md", content=page))
        content = jupytext.writes(notebook, fmt="ipynb")
        files.append(File.generated(config, f"examples/{script.stem}.ipynb", content=content))
        picture = script.with_suffix(".png")
        files.append(File.generated(config, f"examples/{picture.name}", content=picture.read_bytes()))
    return files


def _cell(cell: Any) -> str:
    return str(cell.source) if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML.  A formula that cannot be read fails the build."""
    from latex2mathml.converter import convert

    def mathml(match: re.Match[str]) -> str:
        kind = "block" if match[2] == "[" else "inline"
        return str(convert(html.unescape(match[3]).strip(), display=kind))

    return FORMULA.sub(mathml, content)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace comments such as ``<!-- settings -->`` by tables, ``<!-- file NAME -->`` by a file of the repository."""
    for name, made in MADE.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", made())
    return re.sub(r"<!-- file (\S+) -->", lambda match: _file(match[1]), markdown)


def _file(name: str) -> str:
    """A file of the repository, its pictures where the pages have them."""
    return (ROOT / name).read_text("utf-8").replace("](docs/", "](")


def settings() -> str:
    from dpmodel.model.settings import ModelSettings
    from dpmodel.settings_reference import reference

    return reference(ModelSettings, "model")


def training_settings() -> str:
    from dpmodel.cli.schema import training_reference

    return training_reference()


def capabilities() -> str:
    from dpmodel.capabilities import markdown_table

    return markdown_table()


def lammps_styles() -> str:
    from dpmodel.engines.lammps.styles import markdown_table

    return markdown_table()


def commands() -> str:
    """A section for every command: its help and a table of its options."""
    from typer.main import get_command

    from dpmodel.cli.app import app

    return "\n".join(_sections(get_command(app), "dpmodel"))


def _sections(group: Any, words: str) -> Iterator[str]:
    from dpmodel.cli.commands import imported

    for name, (file, _) in group.files.items():
        command = imported(file, name)
        if hasattr(command, "files"):
            yield from _sections(command, f"{words} {name}")
            continue
        text, _, example = (command.help or "").replace("\\[", "[").partition("Examples:")
        lines = [f"## {words} {name}", text.strip(), "```sh", *map(str.strip, example.strip().splitlines()), "```", ""]
        rows = [_row(p) for p in command.params if p.name != "help"]
        yield "\n".join([*lines, *(["| | | default |", "|---|---|---|"] if rows else []), *rows, ""])


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    shown = "" if parameter.default in (None, False, ...) or callable(parameter.default) else f"`{parameter.default}`"
    help_text = (getattr(parameter, "help", "") or "").replace("|", "\\|")
    return f"| {names} | {help_text} | {'required' if parameter.required else shown} |"


ROOT = Path(__file__).parents[1]
NOTEBOOK = """\
{cells}

![What comes out]({name}.png)

This page is a notebook, too: [{name}.ipynb]({name}.ipynb). In a clone it is the script `examples/notebooks/{name}.py`.
"""
MADE = {
    "settings": settings,
    "training settings": training_settings,
    "capabilities": capabilities,
    "lammps styles": lammps_styles,
    "commands": commands,
}
