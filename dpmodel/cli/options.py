"""Arguments and options that several commands take: one name, one letter, one meaning.

In a signature they are in the order of this file: what is read, what is written, what is done, on what.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

console = Console(stderr=True, highlight=False)  # what is said to people; results go to standard output

Model = Annotated[Path, typer.Argument(help="Model file (.dp, .yaml, .dp.json, .pt, .pth).", show_default=False)]
Output = Annotated[Path, typer.Argument(help="The file to write (.dp, .yaml, .dp.json, .pt).", show_default=False)]
Systems = Annotated[
    list[Path] | None, typer.Option("--system", "-s", help="Data: a system, or a folder with systems; repeatable.")
]
Structures = Annotated[
    list[Path],
    typer.Argument(help="Systems of data, folders with systems, or files that ASE reads.", show_default=False),
]
Index = Annotated[str, typer.Option("--index", help="Frames, as ASE counts them: 0, -1, 10:20, ...")]
Head = Annotated[str | None, typer.Option("--head", help="Which model of a multi-task file.", show_default=False)]
Uncertainty = Annotated[
    bool, typer.Option("--uncertainty", help="With standard deviations, if 'dpmodel calibrate' made the model.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the file if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Backend = Annotated[
    str, typer.Option("--backend", "-b", help="numpy, torch, jax, paddle, any other installed, or auto.")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...; the backend's default if not given.")]
Precision = Annotated[
    Literal["float64", "float32"] | None, typer.Option("--precision", help="The file's if not given.")
]


def progress() -> Progress:
    """A bar on standard error, where that is a terminal."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


Trust = Annotated[bool, typer.Option("--trust", help="Run the program in an exported file, which could do anything.")]
