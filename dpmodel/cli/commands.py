"""Groups of commands, each a file of this folder that is imported when it runs, so that none pays for the others.

The file's docstring is the help of its command, its function ``main`` holds signature and body.
"""

import ast
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

CONTEXT = {"help_option_names": ["-h", "--help"]}


# deepmd-kit's names of options that have another one here
NAMES = {"--model-branch": "--head", "--real_error": "--real-error", "--relative_v": "--relative-v"}


class Command(TyperCommand):
    """A command that takes deepmd-kit's names of its options, too; its help does not show them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Those of ``args`` that are left after the options."""
        own = {name for parameter in self.params for name in parameter.opts}

        def translated(word: str) -> str:
            name, equals, value = word.partition("=")
            return NAMES[name] + equals + value if name in NAMES and name not in own else word

        return super().parse_args(ctx, [translated(word) for word in args])


class Commands(TyperGroup):
    """A group that knows its commands by name; their own help and completion read docstrings and import nothing."""

    files: ClassVar[Mapping[str, tuple[str, str | None]]]  # file and panel by the name of the command

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        return list(self.files)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Name, panel and first line of help of a command, for lists of them."""
        if cmd_name not in self.files:
            return None
        file, panel = self.files[cmd_name]
        return TyperCommand(cmd_name, help=escape(summary(file)), rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with, imported, and the arguments that follow it."""
        self.commands = {name: self.get_command(ctx, name) for name in self.files}  # what a typo is compared with
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and imported(self.files[str(name)][0], str(name)), rest


def group(panels: Mapping[str | None, Sequence[str]], **settings: Any) -> typer.Typer:
    """The commands of each panel of the help, "name" or, where the file has another one, "name=file"."""
    pairs = [(panel, *entry.partition("=")[::2]) for panel, entries in panels.items() for entry in entries]
    files = {name: (file or name.replace("-", "_"), panel) for panel, name, file in pairs}
    kind = type("Commands", (Commands,), {"files": files})
    app = typer.Typer(cls=kind, no_args_is_help=True, context_settings=CONTEXT, **settings)
    app.callback()(lambda: None)  # without one, Typer takes it for a single command
    return app


def summary(file: str) -> str:
    """The first line of the docstring of a file of this folder."""
    text = (Path(__file__).parent / f"{file}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def imported(file: str, name: str) -> Any:
    """The command of a file, or its ``group`` of commands."""
    module = import_module(f"dpmodel.cli.{file}")
    app = getattr(module, "GROUP", None) or typer.Typer(add_completion=False)
    if not hasattr(module, "GROUP"):
        settings = CONTEXT | getattr(module, "CONTEXT", {})
        app.command(name, cls=Command, help=escape(module.__doc__ or ""), context_settings=settings)(module.main)
    return get_command(app)
