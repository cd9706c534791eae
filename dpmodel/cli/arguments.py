"""Arguments that several commands of ``dpmodel`` take."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

told = Console(stderr=True, highlight=False)

Model = Annotated[Path, typer.Argument(help="Model file (.dp, .yaml, .dp.json, .pt, .pth).", show_default=False)]
Backend = Annotated[str, typer.Option("--backend", "-b", help="numpy, torch, jax, paddle, or any that is installed.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda:0, ...; the backend's default if not given.")]
Precision = Annotated[Literal["float64", "float32"] | None, typer.Option(help="The file's if not given.")]
Head = Annotated[str | None, typer.Option(help="Which model of a multi-task file.")]
Output = Annotated[Path, typer.Argument(help="The file to write (.dp, .yaml, .dp.json, .pt).", show_default=False)]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the file if it exists.")]
